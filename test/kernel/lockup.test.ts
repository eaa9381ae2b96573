/**
 * Lockup detectors on a clock that the test moves: what counts as a sign, who is asked, and when what
 * is said. Threads that are truly stuck are in test/forced/lockup.test.ts.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import type { MachineOptions } from '../../src/kernel/config.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import type { Lockup } from '../../src/kernel/lockup.ts'
import { KernelBench } from '../support/kernel-bench.ts'
import { HandClock } from '../support/kernel-clock.ts'

/** Half of the shorter limit: how often a CPU looks. */
const PERIOD_MS = 50

/** CPU 0 looks at CPU 1; somebody listens. The clock stands at 0. */
function watched(options: MachineOptions) {
  const bench = new KernelBench(2, options)
  const clock = new HandClock()
  const watcher = bench.kernel(0)
  const other = bench.kernel(1)
  for (const { cpu } of [watcher, other]) clock.drive(cpu.platform)
  const reports: Lockup[] = []
  watcher.events.on('stuck', (report) => void (report.kind !== 'call' && reports.push(report)))
  watcher.lockup.start()
  /** Lets time pass, period by period, and what was asked be waited for. */
  const passTo = async (ms: number): Promise<void> => {
    while (clock.nowMs < ms) {
      clock.moveTo(Math.min(ms, clock.nowMs + PERIOD_MS))
      for (let i = 0; i < 5; i++) await nextTurn()
    }
  }
  return { clock, watcher, other, reports, passTo }
}

const attentionOf = ({ cpu: { memory, id } }: Kernel): number => memory.readCpu(id, CPU.attention)

test('a halted CPU, and one that gives signs, are not even asked', async () => {
  const halted = watched({ softLockupMs: 100, hardLockupMs: 100 })
  halted.other.cpu.core.state = CPU_STATE.halted
  await halted.passTo(1000)
  assert.equal(attentionOf(halted.other), 0)
  const parked = watched({ softLockupMs: 100, hardLockupMs: 100 })
  parked.other.cpu.core.state = CPU_STATE.parked
  parked.other.lockup.start()
  await parked.passTo(1000)
  assert.equal(attentionOf(parked.other), 0)
  assert.deepEqual([halted.reports, parked.reports], [[], []])
  // It is the detector that keeps them in peace, and not nobody who looks.
  parked.other.lockup.stop()
  await parked.passTo(1000 + 3 * PERIOD_MS)
  assert.notEqual(attentionOf(parked.other), 0)
})

test('hard is who had interrupts off at every look; who turned them off late is soft', async () => {
  const { other, reports, passTo } = watched({ softLockupMs: 400, hardLockupMs: 100 })
  await passTo(2 * PERIOD_MS)
  other.cpu.localIrqDisable()
  await passTo(PERIOD_MS + 400 - 1)
  assert.deepEqual(reports, [])
  await passTo(PERIOD_MS + 400 + 200)
  assert.deepEqual(
    reports.map(({ kind }) => kind),
    ['soft'],
  )
  const hard = watched({ softLockupMs: 400, hardLockupMs: 100 })
  hard.other.cpu.localIrqDisable()
  await hard.passTo(PERIOD_MS + 100 + 200)
  assert.deepEqual(
    hard.reports.map(({ kind, activity }) => [kind, activity]),
    [['hard', 'silent']],
  )
})

test('its timer is no sign while interrupts are off', async () => {
  const { other, reports, passTo } = watched({ softLockupMs: Infinity, hardLockupMs: 100 })
  other.lockup.start()
  await passTo(500)
  assert.deepEqual(reports, [])
  other.cpu.localIrqDisable()
  await passTo(1000)
  assert.equal(reports.length, 1)
})

test('who stood still itself measures anew', async () => {
  const { clock, watcher, other, reports, passTo } = watched({
    softLockupMs: 100,
    hardLockupMs: 100,
  })
  other.cpu.localIrqDisable()
  await passTo(2 * PERIOD_MS)
  // The machine was suspended: its clock went on, its timers did not.
  watcher.cpu.platform.now = () => clock.nowMs + 10_000
  await passTo(clock.nowMs + PERIOD_MS)
  assert.equal(reports.length, 0)
  await passTo(clock.nowMs + 100 + 200)
  assert.equal(reports.length, 1)
  assert.ok(reports[0]!.lastedMs < 10_000)
})
