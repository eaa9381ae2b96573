/**
 * Ranges of keys of an address space: what has a memory type of its own. As words of the table in shared
 * memory, and as what a look-up asks.
 */

import { IpiError } from '../base/errors.ts'
import { TYPE, TYPE_WORDS } from '../hardware/layout.ts'
import type { SharedWords } from '../hardware/memory.ts'

/**
 * Keys of an address space: all that no other range names, strings with a prefix, or numbers from the
 * first up to, not including, the second.
 */
export type KeyRange =
  'all' | { readonly prefix: string } | { readonly range: readonly [number, number] }

/** A range that has a place in the table. */
export type TableRange = Exclude<KeyRange, 'all'>

const KIND = { prefix: 1, numbers: 2 } as const
const TYPE_SHIFT = 8
/** Code units of a prefix: as many as a place has room for. */
export const PREFIX_MAX = 2 * (TYPE_WORDS - TYPE.bounds - 1)

/** Throws `IPI_INVALID_ARGUMENT` for what is no range of keys. */
export function checkKeyRange(range: unknown): asserts range is KeyRange {
  if (range === 'all') return
  const { prefix, range: numbers } = (range ?? {}) as Record<string, unknown>
  if (typeof prefix === 'string' && prefix.length > 0 && prefix.length <= PREFIX_MAX) return
  if (Array.isArray(numbers) && numbers.length === 2) {
    const [from, to] = numbers as unknown[]
    if (typeof from === 'number' && typeof to === 'number' && from < to) return
  }
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `a range of keys is 'all', { prefix } of 1 to ${PREFIX_MAX} characters, or { range: [from, to] } ` +
      'with from < to',
  )
}

/** Whether a key lies in a range. */
export function covers(range: TableRange, key: unknown): boolean {
  if ('prefix' in range) return typeof key === 'string' && key.startsWith(range.prefix)
  return typeof key === 'number' && key >= range.range[0] && key < range.range[1]
}

/** Whether some key lies in both. */
export function overlap(a: TableRange, b: TableRange): boolean {
  if ('prefix' in a && 'prefix' in b) {
    return a.prefix.startsWith(b.prefix) || b.prefix.startsWith(a.prefix)
  }
  if ('prefix' in a || 'prefix' in b) return false
  return a.range[0] < b.range[1] && b.range[0] < a.range[1]
}

/** Whether they are the same range. */
export function isSame(a: TableRange, b: TableRange): boolean {
  if ('prefix' in a || 'prefix' in b) {
    return 'prefix' in a && 'prefix' in b && a.prefix === b.prefix
  }
  return a.range[0] === b.range[0] && a.range[1] === b.range[1]
}

/** A range as a message names it. */
export function describeRange(range: KeyRange): string {
  if (range === 'all') return 'all keys'
  return 'prefix' in range ? `"${range.prefix}…"` : `${range.range[0]} to ${range.range[1]}`
}

/** One place of the table, decoded. */
export interface TypedRange {
  readonly mm: number
  readonly range: TableRange
  readonly type: number
}

/** The words of a place. */
export function encodeRange({ mm, range, type }: TypedRange): number[] {
  const words = new Int32Array(TYPE_WORDS)
  words[TYPE.space] = mm + 1
  if ('prefix' in range) {
    words[TYPE.kind] = KIND.prefix | (type << TYPE_SHIFT)
    words[TYPE.bounds] = range.prefix.length
    const units = new Uint16Array(words.buffer, 4 * (TYPE.bounds + 1))
    for (let i = 0; i < range.prefix.length; i++) units[i] = range.prefix.charCodeAt(i)
  } else {
    words[TYPE.kind] = KIND.numbers | (type << TYPE_SHIFT)
    new Float64Array(words.buffer, 4 * TYPE.bounds, 2).set(range.range)
  }
  return [...words]
}

/** What stands at a place, or undefined if it is free. */
export function decodeRange(shared: SharedWords, at: number): TypedRange | undefined {
  const words = new Int32Array(TYPE_WORDS)
  for (let i = 0; i < TYPE_WORDS; i++) words[i] = shared[at + i]!
  const mm = words[TYPE.space]! - 1
  if (mm < 0) return undefined
  const type = words[TYPE.kind]! >> TYPE_SHIFT
  if ((words[TYPE.kind]! & ((1 << TYPE_SHIFT) - 1)) === KIND.numbers) {
    const [from, to] = new Float64Array(words.buffer, 4 * TYPE.bounds, 2)
    return { mm, type, range: { range: [from!, to!] } }
  }
  const units = new Uint16Array(words.buffer, 4 * (TYPE.bounds + 1), words[TYPE.bounds])
  return { mm, type, range: { prefix: String.fromCharCode(...units) } }
}
