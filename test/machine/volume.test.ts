/**
 * A million interrupts and a hundred thousand calls, and nothing lost: not one more interrupt than
 * was sent, each burst seen to its end, each call counted where it ran and answered where it was made.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CpuMask, type BootOptions } from '../../src/index.ts'
import { settled, WORD, type Board } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import { runTask, startTask } from '../support/machine-tasks.ts'
import {
  allSortsOfValues,
  answerBursts,
  BURST,
  BURST_VECTOR,
  DISPATCHED,
  exchangeValues,
  HANDLED,
  readTranslation,
  tally,
  tallyManyTimes,
} from '../support/machine-volume-tasks.ts'

const entry = new URL('../support/machine-volume-tasks.js', import.meta.url)

/** Waits for a word without a turn of the event loop: spinning first, then asleep. */
function awaitWord(board: Board, word: number, value: number): void {
  for (let spins = 0; spins < 20_000; spins++) if (board.get(word) >= value) return
  board.block(word, value)
}

/** Sends `total` interrupts in bursts of 1 to `longest`; each burst's last one must be handled. */
function sendBursts({ machine, board }: Bench, total: number, longest: number): void {
  const mask = CpuMask.of(1)
  let burst = 0
  for (let sent = 0; sent < total; burst++) {
    const length = Math.min(1 + ((burst * 7919) % longest), total - sent)
    for (let i = 1; i < length; i++) machine.sendIpiMask(mask, BURST_VECTOR)
    board.set(BURST, burst + 1)
    machine.sendIpiMask(mask, BURST_VECTOR)
    awaitWord(board, HANDLED, burst + 1)
    sent += length
  }
  const dispatched = board.get(DISPATCHED)
  assert.ok(dispatched >= burst && dispatched <= total, `${dispatched} of ${total}, in ${burst}`)
}

describe('a million interrupts', () => {
  for (const [kind, haltPollMs, total, longest] of [
    ['polling', Infinity, 700_000, 1000],
    ['parked', 0, 300_000, 400],
  ] as const) {
    test(`${total} to a ${kind} CPU: none is lost, however they merge`, async () => {
      await withMachine({ cpus: 2, haltPollMs, entry }, async (bench) => {
        await bench.machine.smpCallFunction(answerBursts)
        sendBursts(bench, total, longest)
        const { machine, board } = bench
        assert.equal(machine.interrupts().count(String(BURST_VECTOR), 1), board.get(DISPATCHED))
        await expectBalancedBooks(machine)
      })
    })
  }
})

/** Calls CPU 1 `total` times with promises, `inFlight` at a time; every answer is checked. */
async function callWithPromises({ machine }: Bench, total: number, inFlight: number) {
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < total) {
      const n = next++
      assert.equal(await machine.smpCallFunctionSingle(1, tally, n), n * 2 + 1)
    }
  }
  const lanes = Promise.all(Array.from({ length: inFlight }, lane))
  await settled(lanes, `${total} calls, ${inFlight} at a time`, 60_000)
}

/** Calls CPU 1 `total` times, blocking. */
function callBlocking({ machine }: Bench, total: number): void {
  for (let n = 0; n < total; n++) {
    assert.equal(machine.smpCallFunctionSingleSync(1, tally, n), n * 2 + 1)
  }
}

describe('a hundred thousand calls', () => {
  // How many block, how many are awaited one by one, and how many a thousand at a time.
  const kinds: readonly [string, BootOptions, readonly [number, number, number]][] = [
    ['queue, polling', { haltPollMs: Infinity }, [3000, 2000, 15_000]],
    ['queue, parked', { haltPollMs: 0 }, [2000, 2000, 16_000]],
    ['queue, adaptive, many slots', { slotCount: 1024 }, [3000, 2000, 45_000]],
    ['callData', { callDriver: 'callData' }, [1500, 1500, 7000]],
  ]
  for (const [kind, options, [blocking, oneByOne, many]] of kinds) {
    const total = blocking + oneByOne + many
    test(`${total}, ${kind}: each ran once and was answered`, async () => {
      await withMachine({ cpus: 2, entry, ...options }, async (bench) => {
        callBlocking(bench, blocking)
        await callWithPromises(bench, oneByOne, 1)
        await callWithPromises(bench, many, 1000)
        assert.equal(bench.board.get(WORD.counted), total)
        await expectBalancedBooks(bench.machine)
      })
    })
  }

  test('calls of which nobody awaits the end run all the same', async () => {
    await withMachine({ cpus: 2, entry }, async ({ machine, board }) => {
      const calls = Array.from({ length: 5000 }, (_, n) =>
        machine.smpCallFunctionSingle(1, tally, n, { wait: false }),
      )
      const answers = await settled(Promise.all(calls), 'starts')
      assert.ok(answers.every((answer) => answer === undefined))
      await board.reached(WORD.counted, 5000)
      await expectBalancedBooks(machine)
      assert.equal(board.get(WORD.counted), 5000)
    })
  })
})

test('two thousand flushes of a CPU that polls: each is acknowledged, none leaves an old value', async () => {
  await withMachine({ cpus: 2, haltPollMs: Infinity, entry }, async ({ machine, board }) => {
    const space = machine.addressSpace('machine.volume')
    const tables = WORD.counted
    const walk = (): number => board.get(tables)
    for (let generation = 1; generation <= 2000; generation++) {
      await machine.smpCallFunctionSingle(1, readTranslation)
      board.set(tables, generation)
      if (generation % 2 === 0) space.flushTlbPageSync(1)
      else await settled(space.flushTlbPage(1), `flush ${generation}`)
      assert.equal(space.translate(1, walk), generation)
      assert.equal(machine.smpCallFunctionSingleSync(1, readTranslation), generation)
    }
    await expectBalancedBooks(machine)
  })
})

describe('values cross as structured clone copies them, by slot and by port', () => {
  for (const callDriver of ['queue', 'callData'] as const) {
    test(`all sorts, to a worker, to this thread, between workers (${callDriver})`, async () => {
      await withMachine({ cpus: 3, callDriver, entry }, async ({ machine }) => {
        const { length } = allSortsOfValues()
        for (const [from, to] of [
          [0, 1],
          [1, 0],
          [2, 1],
        ] as const) {
          const exchange = runTask(from, exchangeValues, to)
          assert.equal(await settled(exchange, `values from ${from} to ${to}`), length)
        }
        await expectBalancedBooks(machine)
      })
    })
  }

  test('strings of every length around the size of a slot', async () => {
    await withMachine({ cpus: 2, slotBytes: 256, entry }, async ({ machine }) => {
      for (let length = 150; length < 260; length++) {
        for (const letter of ['x', '\u0416']) {
          const text = letter.repeat(letter === 'x' ? length : length >> 1)
          assert.equal(machine.smpCallFunctionSingleSync(1, 'machine.echo', text), text)
        }
      }
      await expectBalancedBooks(machine)
    })
  })

  test('one argument for many CPUs, by slot and by port', async () => {
    await withMachine({ cpus: 4, entry }, async ({ machine }) => {
      for (const value of ['small', 'large'.repeat(10_000), new Map([[1, 2]])]) {
        const answers = await machine.onEachCpu('machine.echo', value)
        assert.deepEqual([...answers.keys()], [0, 1, 2, 3])
        for (const answer of answers.values()) assert.deepEqual(answer, value)
      }
      await expectBalancedBooks(machine)
    })
  })
})

describe('workers call each other with no third thread in between', () => {
  for (const callDriver of ['queue', 'callData'] as const) {
    test(`while this thread is blocked, by slot and by port (${callDriver})`, async () => {
      await withMachine({ cpus: 3, callDriver, entry }, async ({ machine, board }) => {
        const times = 2000
        const first = await startTask(1, tallyManyTimes, { target: 2, times })
        const second = await startTask(2, exchangeValues, 1)
        // No turn of this event loop, no safepoint: whatever needs this thread comes to nothing.
        board.block(WORD.done, 2)
        assert.equal(board.get(WORD.counted), times)
        await settled(Promise.all([first.result, second.result]), 'both tasks')
        await expectBalancedBooks(machine)
      })
    })
  }
})
