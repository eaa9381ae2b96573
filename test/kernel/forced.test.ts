/** Forced entries into a kernel: what of calls, softirqs and rescheduling runs there. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { TIF } from '../../src/kernel/thread-flags.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { KernelBench } from '../support/kernel-bench.ts'
import { spyAfter } from '../support/kernel-spies.ts'

/** Two CPUs whose second logs what it runs: a safe function, and one that is not. */
function pair() {
  const bench = new KernelBench(2)
  const [caller, target] = bench.kernels as [Kernel, Kernel]
  const log: string[] = []
  for (const { functions } of bench.kernels) {
    functions.register('safe', () => log.push('safe'), { interruptSafe: true })
    functions.register('unsafe', () => log.push('unsafe'))
  }
  const force = (): boolean => target.cpu.core.deliverInterrupts('forced')
  const call = (name: string): Promise<unknown> => caller.calls.single(1, name, 0)
  return { bench, target, log, force, call }
}

test('a queue is served if all of it is interrupt-safe, and else not at all', async () => {
  const { bench, log, force, call } = pair()
  await bench.drive(Promise.all([call('safe'), Promise.resolve(force())]))
  assert.deepEqual(log.splice(0), ['safe'])
  const both = Promise.all([call('unsafe'), call('safe')])
  force()
  assert.deepEqual(log, [])
  await bench.drive(both)
  assert.deepEqual(log, ['unsafe', 'safe'])
})

test('an unsafe call that is pushed behind the look stays for a safepoint, and all before it', async () => {
  const { bench, target, log, force, call } = pair()
  const first = call('safe')
  let second: Promise<unknown> | undefined
  spyAfter(target.driver, 'isInterruptSafe', () => void (second ??= call('unsafe')))
  force()
  assert.deepEqual(log, [], 'nothing is taken out of the queue')
  await bench.drive(Promise.all([first, second]))
  assert.deepEqual(log, ['safe', 'unsafe'])
})

test('softirqs are left to the event loop', async () => {
  const { bench, target, log, force, call } = pair()
  target.softirqs.openSoftirq(5, () => log.push('softirq'))
  target.functions.register('raise', () => target.softirqs.raiseSoftirq(5), { interruptSafe: true })
  const done = call('raise')
  force()
  assert.deepEqual(log, [])
  await nextTurn()
  assert.deepEqual(log, ['softirq'])
  await bench.drive(done)
})

test('a scheduler runs only if it is interrupt-safe; the mark stays for the next safepoint', async () => {
  for (const isHookSafe of [false, true]) {
    const { bench, target, log, force, call } = pair()
    target.rescheduler.onSchedule = () => log.push('schedule')
    target.rescheduler.isHookSafe = () => isHookSafe
    const done = call('safe')
    target.cpu.setThreadFlags(TIF.NEED_RESCHED)
    force()
    assert.deepEqual(log.splice(0), isHookSafe ? ['safe', 'schedule'] : ['safe'])
    await bench.drive(done)
  }
})

test('below a forced entry, a safepoint does not let the rest in', async () => {
  const { bench, target, log, force, call } = pair()
  target.idt.requestIrq(0x60, 'unsafe vector', () => log.push('vector'))
  target.rescheduler.onSchedule = () => {
    target.cpu.apic.raise(0x60)
    target.cpu.poll()
    log.push('schedule')
  }
  const done = call('safe')
  target.cpu.setThreadFlags(TIF.NEED_RESCHED)
  force()
  assert.deepEqual(log, ['safe', 'schedule'])
  await bench.drive(done)
  assert.deepEqual(log, ['safe', 'schedule', 'vector'])
})

test('an entry that finds little room on the stack takes a call whole, or leaves it whole', async () => {
  const bench = new KernelBench(2)
  const [target, caller] = bench.kernels as [Kernel, Kernel]
  let runs = 0
  for (const { functions } of bench.kernels) {
    functions.register('count', () => ++runs, { interruptSafe: true })
  }
  target.forced.open()
  const { enter } = Reflect.get(globalThis, Symbol.for('interprocessor.forced')) as {
    enter: () => void
  }
  let thrown = 0
  /** Enters with so many of its frames below the end of the stack. */
  const enterAbove = (frames: number): number => {
    try {
      const rest = enterAbove(frames) + 1
      if (rest === frames) enter()
      return rest
    } catch (error) {
      if (error instanceof RangeError) thrown++
      return 0
    }
  }
  try {
    for (let frames = 1; frames <= 400; frames += 3) {
      const before = runs
      const call = caller.calls.single(0, 'count', 0)
      enterAbove(frames)
      // The platform repeats an entry that threw: by then there is room.
      enter()
      assert.equal(await bench.drive(call), before + 1, `${frames} frames from the end`)
      assert.equal(runs, before + 1)
      assert.equal(target.cpu.irqsDisabled, false)
      assert.equal(target.cpu.inInterrupt, false)
    }
    assert.ok(thrown > 0)
  } finally {
    target.forced.close()
  }
})
