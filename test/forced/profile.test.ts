/** Profiles of real threads: what took the time is found, on every CPU, and the format is right. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { CpuProfile, MachineProfile } from '../../src/index.ts'
import { buildProfile } from '../../src/kernel/profile.ts'
import { namedWait } from '../support/forced-tasks.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import { startTask } from '../support/machine-tasks.ts'
import { work, workOn } from '../support/profile-tasks.ts'

const TASKS = new URL('../support/profile-tasks.js', import.meta.url)
const PROFILE_MS = 2500

function withCpus(cpus: number, run: (bench: Bench) => Promise<void>): Promise<void> {
  return withMachine({ cpus, entry: TASKS, haltPollMs: 0 }, run)
}

/** What a profile must be for the tools that read it. */
function checkFormat(text: string): CpuProfile {
  const profile = JSON.parse(text) as CpuProfile
  const { nodes, samples, timeDeltas, startTime, endTime } = profile
  const ids = new Set(nodes.map(({ id }) => id))
  assert.equal(ids.size, nodes.length)
  assert.equal(nodes[0]!.callFrame.functionName, '(root)')
  const children = nodes.flatMap((node) => node.children)
  assert.equal(new Set(children).size, nodes.length - 1, 'each but the root is a child, once')
  for (const child of children) assert.ok(ids.has(child))
  assert.equal(samples.length, timeDeltas.length)
  for (const sample of samples) assert.ok(ids.has(sample))
  for (const delta of timeDeltas) assert.ok(Number.isInteger(delta) && delta >= 0)
  const lastUs = timeDeltas.reduce((sum, delta) => sum + delta, startTime)
  assert.ok(lastUs <= endTime, `${lastUs} <= ${endTime}`)
  const hits = nodes.reduce((sum, { hitCount }) => sum + hitCount, 0)
  assert.equal(hits, samples.length)
  for (const { callFrame } of nodes) {
    assert.equal(typeof callFrame.functionName, 'string')
    assert.equal(typeof callFrame.scriptId, 'string')
    assert.equal(typeof callFrame.url, 'string')
    assert.ok(callFrame.lineNumber >= -1 && callFrame.columnNumber >= -1)
  }
  return profile
}

/** How often each function was found on top, of a CPU. */
function hitsOf(profile: MachineProfile, cpu: number): Map<string, number> {
  const { nodes } = profile.ofCpu(cpu)!
  const hits = new Map<string, number>()
  for (const { callFrame, hitCount } of nodes) {
    const { functionName } = callFrame
    if (hitCount > 0) hits.set(functionName, (hits.get(functionName) ?? 0) + hitCount)
  }
  return hits
}

function shareOf(hits: Map<string, number>, name: string): number {
  const total = [...hits.values()].reduce((sum, count) => sum + count, 0)
  assert.ok(total > 10, `${total} samples`)
  return (hits.get(name) ?? 0) / total
}

describe('a profile', () => {
  test('has what took the time, on the main thread and on workers that never look up', () =>
    withCpus(5, async ({ machine, board }) => {
      const busy = [await startTask(1, workOn), await startTask(2, workOn)]
      const waiting = await startTask(3, namedWait)
      await board.reached(WORD.entered, 3)
      let isOver = false
      const profiling = machine
        .profile(PROFILE_MS, { intervalMs: 4 })
        .finally(() => (isOver = true))
      while (!isOver) {
        for (const end = performance.now() + 50; performance.now() < end;) work()
        await nextTurn()
      }
      const profile = await settled(profiling, 'the profile')
      board.set(WORD.release, 1)
      await settled(Promise.all([...busy, waiting].map(({ result }) => result)), 'the tasks')

      assert.deepEqual(profile.cpus, [0, 1, 2, 3, 4])
      for (const cpu of [0, 1, 2]) {
        const share = shareOf(hitsOf(profile, cpu), 'hotFunction')
        assert.ok(share > 0.7, `CPU ${cpu}: ${share}`)
      }
      assert.ok(shareOf(hitsOf(profile, 3), 'Atomics.wait') > 0.9)
      assert.ok(shareOf(hitsOf(profile, 4), '(idle)') > 0.9)

      const all = checkFormat(JSON.stringify(profile))
      const tops = all.nodes[0]!.children.map((id) => all.nodes[id - 1]!.callFrame.functionName)
      assert.deepEqual(tops.toSorted(), ['(idle)', 'CPU 0', 'CPU 1', 'CPU 2', 'CPU 3', 'CPU 4'])
      const hot = all.nodes.find(({ callFrame }) => callFrame.functionName === 'hotFunction')!
      assert.match(hot.callFrame.url, /^file:.*profile-tasks\.[jt]s$/)
      for (const cpu of profile.cpus) checkFormat(JSON.stringify(profile.ofCpu(cpu)))
      assert.equal(profile.ofCpu(7), undefined)
    }))

  test('can be made again, and leaves the machine as it was', () =>
    withCpus(2, async ({ machine, board }) => {
      const { result } = await startTask(1, workOn)
      await board.reached(WORD.entered)
      for (let i = 0; i < 3; i++) {
        const profile = await settled(machine.profile(1000, { intervalMs: 2 }), 'the profile')
        assert.ok(shareOf(hitsOf(profile, 1), 'hotFunction') > 0.7)
      }
      const seen = await settled(machine.backtrace([1]), 'the backtrace')
      assert.match(seen.cpu(1)!.stack, /workOn/)
      board.set(WORD.release, 1)
      await settled(result, 'the task')
    }))

  test('has what there is of a thread that ends meanwhile, and ends with the machine', () =>
    withCpus(3, async ({ machine, board }) => {
      await startTask(1, workOn)
      await board.reached(WORD.entered)
      const profiling = machine.profile(600)
      await settled(machine.cpuDown(1, { force: true, timeoutMs: 100 }), 'the end of CPU 1')
      const profile = await settled(profiling, 'the profile')
      checkFormat(JSON.stringify(profile))
      assert.ok(profile.cpus.includes(2))
      const never = assert.rejects(machine.profile(60_000), { code: 'IPI_MACHINE_CLOSED' })
      await settled(machine.close(), 'the machine')
      await settled(never, 'the profile')
    }))

  test('is refused where it cannot be', () =>
    withCpus(1, async ({ machine }) => {
      const code = 'IPI_INVALID_ARGUMENT'
      for (const ms of [0, -1, Infinity, Number.NaN, '5' as unknown as number]) {
        await assert.rejects(machine.profile(ms), { code })
        await assert.rejects(machine.profile(5, { intervalMs: ms }), { code })
      }
      machine.cpu.localIrqDisable()
      const refused = assert.rejects(machine.profile(5), { code: 'IPI_WOULD_DEADLOCK' })
      machine.cpu.localIrqEnable()
      await refused
    }))
})

test('frames are read in all their forms, and tracks stand one behind the other', () => {
  const stack = (...frames: string[]): string => frames.map((frame) => `    at ${frame}`).join('\n')
  const sample = (atMs: number, text: string) => ({ threadId: 0, atMs, stack: text })
  const first = [
    sample(1010, stack('Array.map (<anonymous>)', 'Object.f [as g] (file:///a b.mjs:3:7)')),
    sample(1020, stack('async h (file:///c.mjs:1:1)', 'new K (node:internal/k:5:9)')),
    sample(1030, ''),
  ]
  const second = [
    sample(999, stack('file:///c.mjs:20:3')),
    sample(2000, stack('h (file:///c.mjs:1:1)')),
  ]
  const tracks = [
    { name: 'CPU 0', samples: first },
    { name: 'CPU 1', samples: second },
  ]
  const profile = buildProfile(tracks, { startMs: 1000, endMs: 1100 })
  checkFormat(JSON.stringify(profile))
  const frames = profile.nodes.map(
    ({ callFrame: { functionName, url, lineNumber, columnNumber } }) =>
      url === '' ? functionName : `${functionName} ${url} ${lineNumber} ${columnNumber}`,
  )
  assert.deepEqual(frames, [
    '(root)',
    '(idle)',
    'CPU 0',
    'Object.f [as g] file:///a b.mjs 2 6',
    'Array.map',
    'new K node:internal/k 4 8',
    'h file:///c.mjs 0 0',
    'CPU 1',
    '(anonymous) file:///c.mjs 19 2',
    'h file:///c.mjs 0 0',
  ])
  assert.deepEqual(profile.samples, [5, 7, 2, 9, 10])
  assert.deepEqual(profile.timeDeltas, [10_000, 10_000, 10_000, 70_000, 100_000])
  assert.equal(profile.endTime - profile.startTime, 200_000)
})
