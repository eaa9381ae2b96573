/**
 * An idle CPU is a thread that lives: its event loop turns, and of the waits that nobody can withdraw
 * it never has more than one (users' question 3.6, pitfalls P1, P2 and P6).
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { until, WORD } from '../support/machine-board.ts'
import { withMachine } from '../support/machine-harness.ts'
import { startTicking } from '../support/machine-hotplug-tasks.ts'
import { echo } from '../support/machine-tasks.ts'
import { countWaits, forgetMost } from '../support/machine-waits-entry.ts'

const entry = new URL('../support/machine-hotplug-tasks.js', import.meta.url)
const waitsEntry = new URL('../support/machine-waits-entry.js', import.meta.url)

/** Resolves once no asynchronous wait of this thread is pending. */
function noneIsPending(): Promise<void> {
  return until(
    () => countWaits(undefined).pending === 0,
    () => `${countWaits(undefined).pending} waits are pending`,
    2000,
  )
}

describe('an idle CPU is a thread that lives', () => {
  for (const haltPollMs of [0, 0.2, Infinity]) {
    test(`its timers go on: haltPollMs ${haltPollMs}`, async () => {
      await withMachine({ cpus: 2, haltPollMs, entry }, async ({ machine, board }) => {
        await machine.smpCallFunctionSingle(1, startTicking)
        // The board is looked at and the CPU left alone: nothing but its own timer wakes it.
        await board.reached(WORD.counted, 5)
      })
    })
  }

  test('it has one asynchronous wait pending, never two, whatever happens', async () => {
    await noneIsPending()
    forgetMost()
    await withMachine({ cpus: 3, maxCpus: 4, entry: waitsEntry }, async ({ machine }) => {
      for (let round = 0; round < 300; round++) {
        machine.smpCallFunctionSingleSync(1, echo, round)
        await machine.smpCallFunction(echo, round)
        machine.cpu.halt(0)
        machine.sendIpiAll(0xfc)
      }
      await machine.cpuUp()
      await machine.cpuDown(2)
      const counts = await machine.onEachCpu(countWaits)
      for (const [cpu, { pending, most }] of counts) {
        assert.ok(pending <= 1 && most === 1, `CPU ${cpu}: ${pending} pending, ${most} at most`)
      }
    })
  })

  test('a machine that is closed leaves none behind', async () => {
    for (let round = 0; round < 3; round++) {
      await withMachine({ cpus: 1 + (round % 2), entry: waitsEntry }, async ({ machine }) => {
        await machine.onEachCpu(echo, round)
      })
    }
    await noneIsPending()
  })
})
