/** Targets and senders of the volume test. */

import { deepStrictEqual } from 'node:assert'
import { sharedFunction, thisMachine } from '../../src/index.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask, echo } from './machine-tasks.ts'

/** The vector of all bursts. */
export const BURST_VECTOR = 0x51
/** Words of the board: the number of the burst under way, and the newest one that was handled. */
export const BURST = WORD.free
export const HANDLED = WORD.free + 1
/** How many interrupts were dispatched. */
export const DISPATCHED = WORD.free + 2

/** Answers each interrupt with the number of the burst that it finds. */
export const answerBursts = sharedFunction('machine.answerBursts', () => {
  thisMachine().requestIrq(BURST_VECTOR, 'burst', () => {
    board().add(DISPATCHED)
    board().set(HANDLED, board().get(BURST))
  })
})

/** Counts on the target, and gives an answer that belongs to the question alone. */
export const tally = sharedFunction('machine.tally', (n: number) => {
  board().add(WORD.counted)
  return n * 2 + 1
})

/** Reads a translation whose table is a word of the board. */
export const readTranslation = sharedFunction('machine.readTranslation', () =>
  thisMachine()
    .addressSpace('machine.volume')
    .translate(1, () => board().get(WORD.counted)),
)

/** What travels: plain values that fit a slot, plain values that do not, and what only a port can. */
export function allSortsOfValues(): unknown[] {
  const shared = { name: 'shared' }
  const ring: { self?: unknown } = {}
  ring.self = ring
  const sparse = [1]
  sparse[4] = 2
  return [
    undefined,
    null,
    true,
    false,
    0,
    -0,
    2 ** 31 - 1,
    -(2 ** 31),
    2 ** 53,
    0.1,
    Number.NaN,
    -Infinity,
    12345678901234567890n,
    '',
    'ascii',
    'g\u00fcltig',
    '\u4e2d\u6587 \u{1f600} \ud800',
    'x'.repeat(100_000),
    '\u0416'.repeat(2_000),
    [],
    [1, 'two', [3, [4]], null, undefined],
    sparse,
    {},
    { a: 1, b: { c: [true, { d: 'e' }] }, 'with space': -1 },
    JSON.parse('{"__proto__": 1, "constructor": 2}'),
    Array.from({ length: 100 }, (_, i) => ({ i, text: `entry ${i}` })),
    [shared, shared],
    ring,
    new Map<unknown, unknown>([
      ['a', 1],
      [{ key: true }, new Set([1, 2])],
    ]),
    new Date(1e12),
    /pattern/giu,
    new Uint8Array([1, 2, 3]),
    new Float64Array(1000).fill(Math.PI),
    new Uint16Array(new Uint16Array([9, 8, 7, 6]).buffer, 2, 2),
    new ArrayBuffer(16),
    new DataView(new ArrayBuffer(4)),
  ]
}

/** Calls another CPU with everything, blocking and not, until each answer was what it should be. */
export const exchangeValues = defineTask('exchangeValues', async (target: number) => {
  const machine = thisMachine()
  const values = allSortsOfValues()
  for (const value of values) {
    deepStrictEqual(machine.smpCallFunctionSingleSync(target, echo, value), value)
  }
  // All at once: an answer by slot must not be given to a question by port.
  const answers = values.map((value) => machine.smpCallFunctionSingle(target, echo, value))
  deepStrictEqual(await Promise.all(answers), values)
  board().add(WORD.done)
  return values.length
})

/** Calls another CPU many times, blocking. */
export const tallyManyTimes = defineTask(
  'tallyManyTimes',
  ({ target, times }: { target: number; times: number }) => {
    const machine = thisMachine()
    for (let i = 0; i < times; i++) {
      const answer = machine.smpCallFunctionSingleSync(target, tally, i)
      if (answer !== i * 2 + 1) throw new Error(`call ${i} was answered ${answer}`)
    }
    board().add(WORD.done)
  },
)
