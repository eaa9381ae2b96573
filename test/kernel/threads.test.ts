/**
 * Interrupts between real threads, without the call functions: everybody to everybody, and the
 * sleeper that is never missed. Row D-175 of docs/conformance.md and the book's claim F-01.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { APIC_DRIVERS } from '../support/kernel-bench.ts'
import {
  advance,
  countVector,
  haltUntilStopped,
  nothing,
  sendFrom,
  stayUntil,
  waitFor,
  WORD,
} from '../support/kernel-tasks.ts'
import { bootThreads, until } from '../support/kernel-threads.ts'

const VECTOR = 0xa5

for (const apic of APIC_DRIVERS) {
  describe(`threads on ${apic}`, () => {
    test('F-01 each CPU interrupts each CPU, itself too, exactly once', async () => {
      await using threads = await bootThreads({ cpus: 3, apic })
      const { machine, words } = threads
      await machine.onEachCpu(countVector, VECTOR)
      const counts = (): number[] => [...words.subarray(WORD.counts, WORD.counts + 3)]
      const expected = [0, 0, 0]
      for (const sender of [0, 1, 2]) {
        for (const target of [0, 1, 2]) {
          await machine.smpCallFunctionSingle(sender, sendFrom, { mask: [target], vector: VECTOR })
          expected[target]!++
          await until(() => counts()[target]! >= expected[target]!, `CPU ${target} has it`)
          assert.deepEqual(counts(), expected, `from ${sender} to ${target}`)
        }
      }
      await machine.onEachCpu(nothing)
      assert.deepEqual(counts(), expected, 'and none comes later')
      assert.deepEqual(
        [0, 1, 2].map((cpu) => machine.interrupts().count(String(VECTOR), cpu)),
        expected,
      )
    })

    test('D-175 a CPU that halts and a sender: no interrupt is lost, each ends a halt', async () => {
      await using threads = await bootThreads({ cpus: 2, apic })
      const { machine, words } = threads
      const { wakes, halts, received } = WORD
      await machine.smpCallFunctionSingle(1, haltUntilStopped, VECTOR)
      waitFor(WORD.arrived, 1)
      for (let i = 0; i < 500; i++) {
        const before = [wakes, received].map((word) => Atomics.load(words, word))
        // Sent wherever the other happens to be: before its STI, between STI and HLT, asleep.
        machine.sendIpiMask([1], VECTOR)
        waitFor(received, before[1]! + 1)
        waitFor(wakes, before[0]! + 1)
        waitFor(halts, before[0]! + 2)
      }
      assert.equal(Atomics.load(words, received), 500)
      assert.equal(Atomics.load(words, wakes), 500)
      advance(WORD.stop)
      machine.sendIpiMask([1], VECTOR)
      waitFor(WORD.left, 1)
    })

    test('senders never wait: a target with interrupts off gets it when they are on', async () => {
      await using threads = await bootThreads({ cpus: 3, apic })
      const { machine, words } = threads
      await machine.onEachCpu(countVector, VECTOR)
      await machine.smpCallFunction(stayUntil, 1, { wait: false })
      await until(() => Atomics.load(words, WORD.arrived) === 2, 'both are in a handler')
      for (let i = 0; i < 3; i++) machine.sendIpiAllButSelf(VECTOR)
      machine.sendIpiAll(VECTOR)
      assert.deepEqual([...words.subarray(WORD.counts, WORD.counts + 3)], [1, 0, 0])
      advance(WORD.gate)
      // A call is of a higher class than VECTOR, so it may overtake it.
      for (const cpu of [1, 2]) waitFor(WORD.counts + cpu, 1)
      await machine.smpCallFunction(nothing)
      assert.deepEqual([...words.subarray(WORD.counts, WORD.counts + 3)], [1, 1, 1])
    })
  })
}
