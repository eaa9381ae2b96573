/**
 * An idle CPU is a thread that lives: its event loop turns, and of the waits that nobody can withdraw
 * it never has more than one (users' question 3.6, pitfalls P1, P2 and P6).
 */

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import type { Machine } from '../../src/index.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import { DEADLINE_MS, until, WORD, type Board } from '../support/machine-board.ts'
import { withMachine } from '../support/machine-harness.ts'
import { startTicking } from '../support/machine-hotplug-tasks.ts'
import {
  COUNTED_VECTOR,
  seeRunning,
  startCounting,
  startTurning,
  TURNS,
} from '../support/machine-idle-tasks.ts'
import { echo } from '../support/machine-tasks.ts'
import { countWaits, forgetMost } from '../support/machine-waits-entry.ts'

const entry = new URL('../support/machine-hotplug-tasks.js', import.meta.url)
const idleEntry = new URL('../support/machine-idle-tasks.js', import.meta.url)
const waitsEntry = new URL('../support/machine-waits-entry.js', import.meta.url)

/** Longer than the idle loop ever polls without a turn of the event loop. */
const LONGER_THAN_TURN_MS = 12
/** What a lone processor cannot do. */
const NEEDS_TWO = { skip: availableParallelism() < 2 && 'a CPU polls only beside another' }

/** What a CPU tells senders that it does: one of CPU_STATE. */
function stateOf(machine: Machine, cpu: number): number {
  return machine.cpu.memory.readCpu(cpu, CPU.state)
}

/** How often a CPU was rung out of its event loop. */
function ringsOf(machine: Machine, cpu: number): number {
  return machine.cpu.readCount(cpu, EVENT.rings)
}

/** Resolves once a CPU is parked, without ringing it. */
function parked(machine: Machine, cpu: number): Promise<void> {
  return until(
    () => stateOf(machine, cpu) === CPU_STATE.parked,
    () => `CPU ${cpu} is in state ${stateOf(machine, cpu)}`,
  )
}

/** Sends interrupts, each a few microseconds after the one before was handled. */
function sendOneByOne(machine: Machine, board: Board, cpu: number, count: number): void {
  const deadline = performance.now() + DEADLINE_MS
  const before = board.get(WORD.counted)
  for (let i = 1; i <= count; i++) {
    machine.sendIpiMask([cpu], COUNTED_VECTOR)
    while (board.get(WORD.counted) < before + i) {
      assert.ok(performance.now() < deadline, `interrupt ${i} is not handled`)
    }
    for (const next = performance.now() + 0.005; performance.now() < next;);
  }
}

/**
 * Sends interrupts so slowly that polling for the next grows, until CPU 1 polls for longer than one
 * turn. Gives how often it was rung so far.
 */
async function growPolling(machine: Machine, board: Board): Promise<number> {
  const deadline = performance.now() + DEADLINE_MS
  do {
    assert.ok(performance.now() < deadline, 'polling does not grow')
    sendOneByOne(machine, board, 1, 1)
    await pause(LONGER_THAN_TURN_MS)
  } while (stateOf(machine, 1) !== CPU_STATE.polling)
  return ringsOf(machine, 1)
}

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

describe('an idle CPU looks by itself only while that pays', () => {
  test('a CPU that polls for long parks after the last interrupt', NEEDS_TWO, async () => {
    const options = { cpus: 2, haltPollMs: 20, entry: idleEntry }
    await withMachine(options, async ({ machine, board }) => {
      await machine.smpCallFunctionSingle(1, startCounting)
      // Again and again: polling begins each time where it has grown to.
      for (let round = 0; round < 3; round++) {
        const rings = await growPolling(machine, board)
        await parked(machine, 1)
        assert.equal(ringsOf(machine, 1), rings, 'nobody rang meanwhile')
        sendOneByOne(machine, board, 1, 1)
        assert.equal(ringsOf(machine, 1), rings + 1, 'it has to be rung now')
      }
    })
  })

  test('a main program that blocks is rung no more until its event loop has turned', async () => {
    await withMachine({ cpus: 2, entry: idleEntry }, async ({ machine }) => {
      await parked(machine, 0)
      assert.equal(machine.smpCallFunctionSingleSync(1, seeRunning), true, 'it looks by itself')
      assert.equal(stateOf(machine, 0), CPU_STATE.running)
      // Promises are no turn of the event loop.
      for (let i = 0; i < 10; i++) await Promise.resolve()
      assert.equal(stateOf(machine, 0), CPU_STATE.running)
      await parked(machine, 0)
    })
  })

  test('an event loop that turns anyway is not rung for each interrupt', NEEDS_TWO, async () => {
    const total = 200
    await withMachine({ cpus: 2, haltPollMs: 0, entry: idleEntry }, async ({ machine, board }) => {
      await machine.smpCallFunctionSingle(1, startCounting)
      await machine.smpCallFunctionSingle(1, startTurning)
      await board.reached(TURNS, 10)
      await parked(machine, 1)
      const [rings, turns] = [ringsOf(machine, 1), board.get(TURNS)]
      sendOneByOne(machine, board, 1, total)
      const rung = ringsOf(machine, 1) - rings
      const turned = board.get(TURNS) - turns
      assert.ok(rung > 0 && rung < total / 4, `rung ${rung} times for ${total} interrupts`)
      assert.ok(turned > total / 2, `turned ${turned} times while ${total} interrupts came`)
      // It parks again all the same, and its own turns go on.
      await parked(machine, 1)
      await board.reached(TURNS, board.get(TURNS) + 10)
    })
  })
})
