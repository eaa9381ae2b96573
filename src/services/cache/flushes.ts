/** What callers ask to be flushed, as records. */

import { IpiError } from '../../base/errors.ts'
import { hashKey, type Key } from '../../hardware/tlb.ts'
import { FLUSH, type Flush } from '../../kernel/flush-log.ts'
import { check, checkKey, type FlushWhat } from './options.ts'

/** A flush of one key. Throws `IPI_INVALID_ARGUMENT`. */
export function flushOf(key: Key): Flush {
  checkKey(key)
  return { kind: FLUSH.key, from: hashKey(key), to: 0 }
}

/** The flushes that a caller asks for. Throws `IPI_INVALID_ARGUMENT`. */
export function flushesOf<K extends Key>(what: FlushWhat<K>): Flush[] {
  if (typeof what !== 'object' || what === null) return [flushOf(what)]
  if (Array.isArray(what)) return what.map((key: K) => flushOf(key))
  if ('tag' in what) {
    check(typeof what.tag === 'string', 'a tag is a string', what.tag)
    return [{ kind: FLUSH.tag, from: hashKey(what.tag), to: 0 }]
  }
  check('range' in what, 'flush takes a key, keys, { range } or { tag }', what)
  const [from, to] = what.range
  check(isPage(from) && isPage(to), 'a range is two integers from 0 to 4,294,967,295', what.range)
  return [{ kind: FLUSH.range, from: from | 0, to: to | 0 }]
}

const isPage = (page: number): boolean => Number.isInteger(page) && page >= 0 && page < 2 ** 32

/** Throws `IPI_INVALID_ARGUMENT` for what is no level of a flush. */
export function checkLevel(level: unknown): void {
  check(
    level === 'visible' || level === 'dropped' || level === 'quiesced',
    'until is visible, dropped or quiesced',
    level,
  )
}

/** Why a value is not given that was read. */
export function flushedError(key: Key): IpiError {
  return new IpiError('IPI_FLUSHED', `"${String(key)}" was flushed while it was being read`)
}
