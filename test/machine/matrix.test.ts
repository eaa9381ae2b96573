/**
 * Every CPU interrupts every other in every state that a CPU can be in, by a vector and by a call:
 * each arrives, a call exactly once, and afterwards the books balance. Rows D-170 to D-179 of the
 * reference, and the question behind them: is there a state in which an interrupt is lost?
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { BOARD_CPUS, settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import {
  callEverybody,
  enter,
  listen,
  send,
  TARGET_STATES,
  type TargetState,
} from '../support/machine-matrix-tasks.ts'
import { runTask, startTask } from '../support/machine-tasks.ts'

const CPUS = 4
const entry = new URL('../support/machine-matrix-tasks.js', import.meta.url)

/** Everybody who may sends to one target while it is in a state. */
async function column({ board }: Bench, target: number, state: TargetState): Promise<void> {
  board.clear()
  // A target that waits for a helper keeps it busy: the helper does not send.
  const helper = state === 'blocked in a call of its own' ? (target + 1) % CPUS : -1
  const senders = [0, 1, 2, 3].filter((cpu) => cpu !== target && cpu !== helper)
  const sending = senders.map((cpu) =>
    startTask(cpu, send, { target, entered: helper < 0 ? 1 : 2, senders: senders.length }),
  )
  // The target may be this thread, which then does nothing for the others any more.
  const answers = (await Promise.all(sending)).map(({ result }) => result)
  const entered = runTask(target, enter, { state, senders: senders.length, helper })
  const all = Promise.all([entered, ...answers])
  const [early, ...received] = await settled(all, `CPU ${target}, ${state}`)
  assert.equal(early, 0, 'nothing came in while nothing could')
  for (const [i, sender] of senders.entries()) {
    const at = target * BOARD_CPUS + sender
    assert.equal(received[i], `CPU ${target} for CPU ${sender}`)
    // Calls have the higher priority: the answer may be here before the vector is taken.
    await board.reached(WORD.vectors + at)
    assert.equal(board.get(WORD.vectors + at), 1, `vector of CPU ${sender} at CPU ${target}`)
    assert.equal(board.get(WORD.calls + at), 1, `call of CPU ${sender} to CPU ${target}`)
  }
}

for (const [kind, options] of [
  ['that park', { haltPollMs: 0 }],
  ['that poll', { haltPollMs: Infinity }],
  ['of the x2apic driver', { apic: 'x2apic' }],
  ['of the bigsmp driver and one call_data record', { apic: 'bigsmp', callDriver: 'callData' }],
] as const) {
  describe(`every CPU interrupts every other: CPUs ${kind}`, () => {
    test('in every state', async (t) => {
      await withMachine({ ...options, cpus: CPUS, maxCpus: CPUS, entry }, async (bench) => {
        const { machine } = bench
        await machine.onEachCpu(listen, CPUS)
        for (const state of TARGET_STATES) {
          // The one record belongs to the helper's call until it ends: nobody else can call.
          if (state === 'blocked in a call of its own' && 'callDriver' in options) continue
          await t.test(state, async () => {
            for (let target = 0; target < CPUS; target++) await column(bench, target, state)
            await expectBalancedBooks(machine)
          })
        }
      })
    })
  })
}

for (const callDriver of ['queue', 'callData'] as const) {
  test(`everybody calls everybody at once, blocking, and nobody waits for ever (${callDriver})`, async () => {
    await withMachine({ cpus: CPUS, callDriver, entry }, async ({ machine, board }) => {
      const rounds = 25
      const starting = [1, 2, 3].map((cpu) => startTask(cpu, callEverybody, rounds))
      const others = (await Promise.all(starting)).map(({ result }) => result)
      const running = Promise.all([runTask(0, callEverybody, rounds), ...others])
      await settled(running, 'calls of everybody to everybody', 60_000)
      for (let target = 0; target < CPUS; target++) {
        for (let sender = 0; sender < CPUS; sender++) {
          const calls = board.get(WORD.calls + target * BOARD_CPUS + sender)
          assert.equal(calls, target === sender ? 0 : rounds)
        }
      }
      await expectBalancedBooks(machine)
    })
  })
}
