/** What the threads of the tests of the shared store import. */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { openStore, sharedFunction, thisMachine, type SharedStore } from '../../src/index.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask } from './machine-tasks.ts'
import { Dice } from './random.ts'

export const STORE_OPTIONS = { name: 'stress', bytes: 1 << 18 } as const
export const KEY_COUNT = 24
/** Words of the board: by key, the largest version that is known to be written. */
export const FLOOR = WORD.vectors

/** A value that tells whether it is whole. */
interface Stamped {
  readonly key: number
  readonly text: string
  readonly sum: number
}

function stamp(key: number, length: number, letter: number): Stamped {
  const text = String.fromCharCode(97 + (letter % 26)).repeat(length)
  return { key, text, sum: key * 1_000_003 + length * 101 + (letter % 26) }
}

/** What is wrong with a value that was read. */
function wrongIn(key: number, value: Stamped): string | undefined {
  const letter =
    value.text === '' ? (value.sum - key * 1_000_003) % 101 : value.text.charCodeAt(0) - 97
  const { text, sum } = stamp(key, value.text.length, letter)
  if (value.key === key && value.text === text && value.sum === sum) return undefined
  return `key ${key} has ${JSON.stringify(value).slice(0, 200)}`
}

/** Raises a word of the board to at least `value`. */
function raise(at: number, value: number): void {
  const { words } = board()
  for (let old = Atomics.load(words, at); old < value;) {
    const found = Atomics.compareExchange(words, at, old, value)
    if (found === old) return
    old = found
  }
}

/** Reads one key, and looks whether what it gives can be. */
function check(store: SharedStore<Stamped>, key: number, newest: Map<number, number>): void {
  const floor = Math.max(board().get(FLOOR + key), newest.get(key) ?? 0)
  const found = store.read(key)
  if (found === undefined) {
    if (floor > 0) throw new Error(`key ${key} had version ${floor}, and now there is none`)
    return
  }
  const wrong = wrongIn(key, found.value)
  if (wrong !== undefined) throw new Error(wrong)
  if (found.version < floor) throw new Error(`key ${key}: ${found.version} after ${floor}`)
  newest.set(key, found.version)
}

/** Writes, deletes and reads at random until the board says `release`; gives how many operations it did. */
export const stress = defineTask('stressStore', async (seed: number) => {
  const store = await openStore<Stamped>(thisMachine(), STORE_OPTIONS)
  const dice = new Dice(seed)
  const newest = new Map<number, number>()
  let operations = 0
  let full = 0
  board().add(WORD.entered)
  while (board().get(WORD.release) === 0) {
    for (let i = 0; i < 300; i++, operations++) {
      const key = dice.below(KEY_COUNT)
      // Keys without a floor, which may go: the upper half of them all.
      const extra = key + KEY_COUNT
      const length = dice.below(dice.below(10) === 0 ? 6000 : 60)
      try {
        if (i % 3 === 0) raise(FLOOR + key, store.set(key, stamp(key, length, operations)))
        else if (i % 7 === 0) store.set(extra, stamp(extra, length, operations))
        else if (i % 11 === 0) store.delete(extra)
        else check(store, key, newest)
      } catch (error) {
        if ((error as { code?: unknown }).code !== 'IPI_STORE_FULL') throw error
        full++
        store.delete(extra)
      }
      if (store.has(extra)) {
        const value = store.get(extra)
        const wrong = value === undefined ? undefined : wrongIn(extra, value)
        if (wrong !== undefined) throw new Error(wrong)
      }
    }
    board().add(WORD.done)
    await nextTurn()
  }
  return { operations, full }
})

/** Writes and deletes small values, and does nothing else, for ever. */
export const writeForEver = defineTask('writeForEver', async () => {
  const store = await openStore<Uint8Array>(thisMachine(), STORE_OPTIONS)
  const values = Array.from({ length: 8 }, (_, i) => new Uint8Array(20 << i))
  for (let i = 0; ; i++) {
    store.set(i % 50, values[i % 7]!)
    store.delete((i * 7) % 50)
    if (i % 1000 === 0) board().add(WORD.done)
  }
})

/** Adds one to a counter of the store, so often. */
export const countUp = defineTask('countUp', async (times: number) => {
  const store = await openStore<number>(thisMachine(), STORE_OPTIONS)
  board().add(WORD.entered)
  board().block(WORD.release)
  for (let i = 0; i < times; i++) {
    for (;;) {
      const { value, version } = store.read('counter') ?? { value: 0, version: 0 }
      if (store.compareAndSet('counter', version, value + 1) !== undefined) break
    }
  }
})

let held: SharedStore<string> | undefined

/** Opens the store on this thread, for `inHandler`. */
export const openHere = defineTask('openStoreHere', async () => {
  held = await openStore<string>(thisMachine(), STORE_OPTIONS)
})

/** Reads and writes in a handler. */
export const inHandler = sharedFunction('store.inHandler', (value: string) => {
  const before = held!.get('handler')
  held!.set('handler', value)
  return before
})
