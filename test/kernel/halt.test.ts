/**
 * Going to sleep: whatever comes between the last look and the sleep ends the sleep before it begins.
 * The race of row D-175 of docs/conformance.md made certain, by posting exactly there; on real
 * threads it is in threads.test.ts. The protocol is 0.7, the history E-01.
 */

// First: it must see the waits of everything that is loaded after it.
import { waitResults } from '../support/kernel-wait-spy.ts'

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU_STATE } from '../../src/hardware/layout.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { KernelBench } from '../support/kernel-bench.ts'
import { until } from '../support/kernel-threads.ts'

const VECTOR = 0xa5
/** Long enough to be seen, short enough to be borne, if a wake-up should be lost. */
const LOST_MS = 300

/** Calls `then` once, as soon as a CPU reads a property of `object`. */
function onceRead<O extends object, K extends keyof O>(object: O, key: K, then: () => void): void {
  const descriptor = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(object), key)!
  Object.defineProperty(object, key, {
    configurable: true,
    get: () => {
      const value: unknown = descriptor.get!.call(object)
      delete (object as Record<K, unknown>)[key]
      then()
      return value
    },
  })
}

/** Two CPUs; the first counts VECTOR, which the second sends. */
function pair(): { kernel: Kernel; taken: () => number; send: () => void } {
  const bench = new KernelBench(2)
  const counts = bench.countIrqs(VECTOR)
  waitResults.length = 0
  return {
    kernel: bench.kernel(0),
    taken: () => counts[0]!,
    send: () => bench.kernel(1).senders.sendIpiCpu(0, VECTOR),
  }
}

describe('HLT', () => {
  test('an interrupt that was there before ends it before it sleeps', () => {
    const { kernel, taken, send } = pair()
    kernel.cpu.localIrqDisable()
    send()
    assert.equal(kernel.cpu.safeHalt(LOST_MS), true)
    assert.equal(taken(), 1)
    assert.deepEqual(waitResults, [])
  })

  test('turned on before it, interrupts come before it, and it sleeps', () => {
    const { kernel, taken, send } = pair()
    kernel.cpu.localIrqDisable()
    send()
    kernel.cpu.localIrqEnable()
    assert.equal(taken(), 1)
    assert.equal(kernel.cpu.halt(1), false)
  })

  test('what cannot be halted turns no interrupts on', () => {
    const { kernel } = pair()
    kernel.cpu.localIrqDisable()
    assert.throws(() => kernel.cpu.safeHalt(-1), { code: 'IPI_INVALID_ARGUMENT' })
    assert.equal(kernel.cpu.irqsDisabled, true)
    kernel.cpu.localIrqEnable()
  })

  test('D-175, E-01 an interrupt that comes after the last look does, too', () => {
    const { kernel, taken, send } = pair()
    // What the core looks at last, after it has harvested what was posted.
    onceRead(kernel.cpu.apic, 'hasPending', send)
    assert.equal(kernel.cpu.halt(LOST_MS), true)
    assert.equal(taken(), 1)
    assert.deepEqual(waitResults, ['not-equal'], 'the doorbell had changed before it slept')
  })

  test('an NMI that comes after the last look does, with interrupts off', () => {
    const { kernel } = pair()
    const { cpu } = kernel
    cpu.localIrqDisable()
    onceRead(cpu.apic, 'nmiPending', () => cpu.descriptors[0]!.postNmi())
    assert.equal(cpu.halt(LOST_MS), true)
    assert.deepEqual(waitResults, ['not-equal'])
    assert.equal(cpu.irqsDisabled, true)
    cpu.localIrqEnable()
  })

  test('nothing comes: it sleeps until the time is over, and says so', () => {
    const { kernel } = pair()
    const before = kernel.cpu.core.state
    assert.equal(kernel.cpu.halt(5), false)
    assert.ok(waitResults.length > 0 && waitResults.every((result) => result === 'timed-out'))
    assert.equal(kernel.cpu.core.state, before, 'senders know that it is awake again')
  })

  test('a maskable interrupt does not end it while interrupts are off', () => {
    const { kernel, taken, send } = pair()
    kernel.cpu.localIrqDisable()
    send()
    assert.equal(kernel.cpu.halt(5), false)
    assert.equal(taken(), 0)
    kernel.cpu.localIrqEnable()
    assert.equal(taken(), 1)
  })
})

describe('a blocking wait', () => {
  test('what makes its condition true after the last look ends it before it sleeps', () => {
    const { kernel } = pair()
    const { cpu, waits } = kernel
    let so = false
    const condition = (): boolean => {
      const seen = so
      // The waiter says that it sleeps, looks once more, and sees nothing: now it becomes true.
      if (cpu.core.state === CPU_STATE.halted) {
        so = true
        cpu.descriptors[0]!.ring()
      }
      return seen
    }
    assert.equal(waits.block(condition, LOST_MS), true)
    assert.deepEqual(waitResults, ['not-equal'])
    assert.equal(cpu.preempt.value, 0)
    assert.equal(cpu.kernelDepth, 0)
  })

  test('an interrupt that comes after the last look is taken, and the wait goes on', () => {
    const { kernel, taken, send } = pair()
    const { cpu, waits } = kernel
    let looks = 0
    const condition = (): boolean => {
      if (cpu.core.state === CPU_STATE.halted && ++looks === 1) {
        onceRead(cpu.apic, 'hasPending', send)
      }
      return taken() === 1
    }
    assert.equal(waits.block(condition, LOST_MS), true)
    assert.deepEqual(waitResults, ['not-equal'])
  })

  test('a condition that never holds ends with the time', () => {
    const { kernel } = pair()
    assert.equal(
      kernel.waits.block(() => false, 30),
      false,
    )
    assert.equal(kernel.cpu.core.state, CPU_STATE.running)
  })
})

describe('the idle loop', () => {
  /** Calls `then` once, right after the CPU has told senders that it is parked. */
  function onceParked(kernel: Kernel, then: () => void): void {
    const { core } = kernel.cpu
    const state = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(core), 'state')!
    Object.defineProperty(core, 'state', {
      configurable: true,
      get: () => state.get!.call(core) as number,
      set: (value: number) => {
        state.set!.call(core, value)
        if (value !== CPU_STATE.parked) return
        delete (core as { state?: number }).state
        then()
      },
    })
  }

  test('an interrupt that comes while it parks is taken', async () => {
    const { kernel, taken, send } = pair()
    onceParked(kernel, send)
    kernel.idle.start()
    await until(() => taken() > 0, 'it is taken')
    assert.equal(taken(), 1)
    kernel.shutDown(new Error('the test is over'))
  })

  test('B9.7 a mark that is set while it parks is seen', async () => {
    const { kernel } = pair()
    let schedules = 0
    kernel.rescheduler.onSchedule = () => schedules++
    onceParked(kernel, () => kernel.rescheduler.reschedTask(0))
    kernel.idle.start()
    await until(() => schedules > 0, 'it schedules')
    assert.equal(schedules, 1)
    kernel.shutDown(new Error('the test is over'))
  })

  test('parked, it is woken by an interrupt, each time', async () => {
    const { kernel, taken, send } = pair()
    kernel.idle.start()
    for (let i = 1; i <= 5; i++) {
      await until(() => kernel.cpu.core.state === CPU_STATE.parked, 'it is parked')
      send()
      await until(() => taken() === i, 'it is woken')
    }
    kernel.shutDown(new Error('the test is over'))
  })
})
