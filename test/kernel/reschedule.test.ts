/**
 * Asking a CPU to reschedule: whom it interrupts, and when a mark is enough. Rows D-213 and D-214 of
 * docs/conformance.md; the book's claim F-12. What the interrupted CPU makes of it stands in
 * return.test.ts.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import { ALWAYS, NEVER } from '../../src/kernel/resched.ts'
import { TIF } from '../../src/kernel/thread-flags.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import { APIC_DRIVERS, KernelBench } from '../support/kernel-bench.ts'
import { recordCommands, requested } from '../support/kernel-spies.ts'
import { advance, countSchedules, nothing, stayUntil, WORD } from '../support/kernel-tasks.ts'
import { bootThreads, stateOf, until } from '../support/kernel-threads.ts'

const { RESCHEDULE_VECTOR } = VECTOR
const BOOLEANS = [false, true]

describe('D-213 reschedTask', () => {
  for (const polling of BOOLEANS) {
    for (const marked of BOOLEANS) {
      for (const same of BOOLEANS) {
        const interrupts = !polling && !marked && !same
        const what = [
          polling ? 'polling' : 'not polling',
          marked ? 'marked' : 'not marked',
          same ? 'this CPU' : 'another CPU',
        ]
        test(`D-213 ${what.join(', ')}: ${interrupts ? 'an interrupt' : 'no interrupt'}`, () => {
          const bench = new KernelBench(3)
          const { cpu, rescheduler } = bench.kernel(0)
          const target = bench.kernel(same ? 0 : 2).cpu
          const before =
            (polling ? TIF.POLLING_NRFLAG : 0) | (marked ? TIF.NEED_RESCHED : 0) | TIF.SIGPENDING
          target.setThreadFlags(before)
          const sent = recordCommands(cpu)
          rescheduler.reschedTask(target.id)
          assert.equal(sent.length, interrupts ? 1 : 0)
          assert.equal(target.threadFlags, before | TIF.NEED_RESCHED, 'it is marked in any case')
        })
      }
    }
  }

  test('B9.2 a second wake-up before the target has scheduled sends nothing', () => {
    const bench = new KernelBench(2)
    const { cpu, rescheduler } = bench.kernel(0)
    let schedules = 0
    bench.kernel(1).rescheduler.onSchedule = () => schedules++
    const sent = recordCommands(cpu)
    rescheduler.reschedTask(1)
    rescheduler.reschedTask(1)
    assert.equal(sent.length, 1)
    bench.poll(1)
    assert.equal(schedules, 1)
    rescheduler.reschedTask(1)
    assert.equal(sent.length, 2, 'after that a wake-up is news again')
  })

  test('what an idle CPU saves its sender is counted', () => {
    const bench = new KernelBench(2)
    bench.kernel(1).cpu.setThreadFlags(TIF.POLLING_NRFLAG)
    bench.kernel(0).rescheduler.reschedTask(1)
    assert.equal(bench.kernel(0).cpu.readCount(0, EVENT.ipisAvoided), 1)
  })
})

for (const apic of APIC_DRIVERS) {
  test(`F-12 smpSendReschedule interrupts exactly one CPU and waits for nothing (${apic})`, () => {
    const bench = new KernelBench(4, { apic })
    for (const target of [1, 2, 3]) {
      // Interrupts are off there: nothing will be acknowledged.
      bench.kernel(target).cpu.localIrqDisable()
      bench.kernel(0).rescheduler.smpSendReschedule(target)
      for (const { cpu } of bench.kernels) cpu.apic.harvest()
      for (const { cpu } of bench.kernels) {
        assert.deepEqual(requested(cpu), cpu.id === target ? [RESCHEDULE_VECTOR] : [])
      }
      bench.kernel(target).cpu.localIrqEnable()
      assert.equal(bench.memory.readCpu(target, CPU.vectorCounts + RESCHEDULE_VECTOR), 1)
    }
  })
}

describe('a mark that nobody waits for', () => {
  /** CPU 0 with a clock, and the CPUs that it has had entered. */
  function escalating(isSafe: boolean) {
    const bench = new KernelBench(3, { forceAfterMs: 10 })
    const { cpu, escalation, forced, rescheduler } = bench.kernel(0)
    const target = bench.kernel(1).rescheduler
    target.onSchedule = () => undefined
    target.isHookSafe = isSafe ? ALWAYS : NEVER
    let clock = 1000
    cpu.platform.now = () => clock
    const entered: number[] = []
    forced.force = (each) => entered.push(each) > 0
    const lookAfter = (ms: number): void => {
      clock += ms
      escalation.look()
    }
    return { bench, rescheduler, entered, lookAfter }
  }

  test('is forced after forceAfterMs, and again, until the CPU has rescheduled', () => {
    const { bench, rescheduler, entered, lookAfter } = escalating(true)
    rescheduler.reschedTask(1)
    lookAfter(9)
    assert.deepEqual(entered, [])
    lookAfter(1)
    lookAfter(9)
    assert.deepEqual(entered, [1])
    lookAfter(1)
    assert.deepEqual(entered, [1, 1])
    bench.poll(1)
    lookAfter(10)
    lookAfter(10)
    assert.deepEqual(entered, [1, 1])
  })

  test('has its own time each, and one watch for each CPU', () => {
    const { bench, rescheduler, entered, lookAfter } = escalating(true)
    for (let i = 0; i < 1000; i++) {
      rescheduler.reschedTask(1)
      bench.poll(1)
    }
    lookAfter(9)
    rescheduler.reschedTask(1)
    lookAfter(9)
    assert.deepEqual(entered, [], 'the mark is nine milliseconds old')
    lookAfter(1)
    assert.deepEqual(entered, [1])
  })

  test('is not forced on a scheduler that is not interrupt-safe, or on a CPU that is gone', () => {
    const unsafe = escalating(false)
    unsafe.rescheduler.reschedTask(1)
    unsafe.lookAfter(10)
    assert.deepEqual(unsafe.entered, [])
    const gone = escalating(true)
    gone.rescheduler.reschedTask(1)
    gone.bench.kill(1, 2)
    gone.lookAfter(10)
    gone.lookAfter(10)
    assert.deepEqual(gone.entered, [])
  })
})

test('a CPU that is not there cannot be asked', () => {
  const bench = new KernelBench(3, { online: [0, 1] })
  const { rescheduler } = bench.kernel(0)
  for (const ask of ['smpSendReschedule', 'reschedTask'] as const) {
    assert.throws(() => rescheduler[ask](2), { code: 'IPI_CPU_OFFLINE', cpu: 2 })
    for (const cpu of [-1, 3, 1.5, Number.NaN]) {
      assert.throws(() => rescheduler[ask](cpu), { code: 'IPI_INVALID_CPU' })
    }
  }
})

describe('on real threads', () => {
  test('D-214 a CPU that polls in its idle loop schedules without an interrupt', async () => {
    await using threads = await bootThreads({ cpus: 2, haltPollMs: Infinity })
    const { machine, words } = threads
    await machine.smpCallFunctionSingle(1, countSchedules)
    const rescheds = (): number => machine.interrupts().count('RES', 1)
    const flags = (): number => machine.cpu.memory.readCpu(1, CPU.threadFlags)
    for (let i = 1; i <= 20; i++) {
      await until(
        () => stateOf(machine, 1) === CPU_STATE.polling && (flags() & TIF.POLLING_NRFLAG) !== 0,
        'CPU 1 polls',
      )
      const interruptsBefore = rescheds()
      const sentBefore = machine.cpu.readCount(0, EVENT.ipisSent)
      machine.reschedTask(1)
      await until(() => Atomics.load(words, WORD.scheduled) === i, 'CPU 1 schedules')
      // It may have been between two rounds of polling: then the interrupt is due.
      const sent = machine.cpu.readCount(0, EVENT.ipisSent) - sentBefore
      assert.ok(rescheds() - interruptsBefore <= sent)
      assert.equal(flags() & TIF.NEED_RESCHED, 0)
    }
    assert.ok(rescheds() < 20, 'the mark alone was enough')
  })

  test('D-210, B9.6 a CPU that sleeps in its idle loop is woken and schedules', async () => {
    await using threads = await bootThreads({ cpus: 2, haltPollMs: 0 })
    const { machine, words } = threads
    await machine.smpCallFunctionSingle(1, countSchedules)
    for (let i = 1; i <= 20; i++) {
      await until(() => stateOf(machine, 1) === CPU_STATE.parked, 'CPU 1 parks')
      const before = machine.interrupts().count('RES', 1)
      machine.reschedTask(1)
      await until(() => Atomics.load(words, WORD.scheduled) === i, 'CPU 1 schedules')
      // It may have seen the mark before the interrupt came.
      await until(() => machine.interrupts().count('RES', 1) === before + 1, 'it was interrupted')
    }
  })

  test('F-12 the sender goes on while the target has interrupts off', async () => {
    await using threads = await bootThreads({ cpus: 2 })
    const { machine, words } = threads
    await machine.smpCallFunctionSingle(1, stayUntil, 1, { wait: false })
    await until(() => Atomics.load(words, WORD.arrived) === 1, 'CPU 1 is in a handler')
    for (let i = 0; i < 5; i++) machine.smpSendReschedule(1)
    assert.equal(machine.interrupts().count('RES', 1), 0)
    advance(WORD.gate)
    await machine.smpCallFunctionSingle(1, nothing)
    assert.equal(machine.interrupts().count('RES', 1), 1, 'those that waited have merged')
  })
})
