/**
 * The watchdog of calls that are not answered: whom it accuses, when, and what it tries. On a clock
 * that the test turns, so that nothing is waited for.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StuckCall } from '../../src/kernel/watchdog.ts'
import { KernelBench } from '../support/kernel-bench.ts'
import { recordCommands } from '../support/kernel-spies.ts'

const LIMIT_MS = 100

/** CPU 0 with its reports, and a clock for it. */
function watched() {
  const bench = new KernelBench(3, { watchdogMs: LIMIT_MS })
  bench.share('nothing', () => () => undefined)
  const kernel = bench.kernel(0)
  let clock = 5000
  kernel.cpu.platform.now = () => clock
  const stuck: StuckCall[] = []
  const unstuck: StuckCall[] = []
  kernel.events.on('stuck', (report) => void (report.kind === 'call' && stuck.push(report)))
  kernel.events.on('unstuck', (report) => void (report.kind === 'call' && unstuck.push(report)))
  const pass = (ms: number): void => void (clock += ms)
  const lookAfter = (ms: number): void => {
    pass(ms)
    kernel.watchdog.look()
  }
  return { bench, kernel, stuck, unstuck, pass, lookAfter }
}

test('it accuses by name after watchdogMs, once, and asks again', async () => {
  const { bench, kernel, stuck, unstuck, lookAfter } = watched()
  const call = kernel.calls.all('nothing', 0)
  bench.poll(1)
  lookAfter(LIMIT_MS - 1)
  assert.equal(stuck.length, 0)
  const sent = recordCommands(kernel.cpu)
  lookAfter(1)
  assert.equal(stuck.length, 1)
  const { cpu, functionName, waitedMs } = stuck[0]!
  assert.deepEqual([cpu, functionName, waitedMs], [0, 'nothing', LIMIT_MS])
  assert.ok(stuck[0]!.targets.includes(2))
  assert.match(stuck[0]!.doing.join(), /CPU 2 is running/)
  assert.equal(sent.length, 1, 'the interrupt is sent again')
  lookAfter(LIMIT_MS)
  assert.equal(stuck.length, 1)
  await bench.drive(call)
  lookAfter(1)
  assert.deepEqual(
    unstuck.map(({ functionName: name }) => name),
    ['nothing'],
  )
})

test('a quiet time before a call does not put its report off', async () => {
  const { bench, kernel, stuck, pass, lookAfter } = watched()
  await bench.drive(kernel.calls.single(1, 'nothing', 0))
  lookAfter(LIMIT_MS)
  // Nothing is out: nobody looks.
  pass(100 * LIMIT_MS)
  const call = kernel.calls.single(1, 'nothing', 0)
  lookAfter(LIMIT_MS)
  assert.equal(stuck.length, 1)
  await bench.drive(call)
})

test('a thread that stood still itself blames nobody before they had their time', async () => {
  const { bench, kernel, stuck, lookAfter } = watched()
  const call = kernel.calls.single(1, 'nothing', 0)
  lookAfter(LIMIT_MS / 2)
  lookAfter(50 * LIMIT_MS)
  assert.equal(stuck.length, 0)
  lookAfter(LIMIT_MS)
  assert.equal(stuck.length, 1)
  await bench.drive(call)
})
