/** Values that are moved to another thread and not copied: piscina's `move` and its two symbols. */

import { types } from 'node:util'

/** Names what of a movable value goes into the transfer list. Shared with piscina itself. */
export const transferableSymbol: unique symbol = Symbol.for('Piscina.transferable') as never
/** Names what is sent in a movable value's place. */
export const valueSymbol: unique symbol = Symbol.for('Piscina.valueOf') as never

const MOVED = Symbol('interprocessor.piscina.moved')

/** What says by itself how it is moved. */
export interface Transferable {
  readonly [transferableSymbol]: object
  readonly [valueSymbol]: object
}

/** A value, and what of it is moved. */
export interface Move {
  readonly value: unknown
  readonly transfer: readonly unknown[]
}

function isTransferable(value: object): value is Transferable {
  return transferableSymbol in value && valueSymbol in value
}

/**
 * Marks a value to be moved, as the argument of `run` or as what a handler returns; not deep inside
 * another value. Gives primitives back as they are.
 */
export function move<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  const movable = isTransferable(value) ? value : wrap(value)
  Object.defineProperty(movable, MOVED, { value: true, configurable: true, writable: true })
  return movable as T
}

function wrap(value: object): Transferable {
  return {
    [transferableSymbol]: types.isArrayBufferView(value) ? value.buffer : value,
    [valueSymbol]: value,
  }
}

/** What `move` has marked, taken apart; undefined for all other values. */
export function moveOf(value: unknown): Move | undefined {
  if (typeof value !== 'object' || value === null || !(MOVED in value)) return undefined
  const movable = value as unknown as Transferable
  // One thing, or a list of them.
  return { value: movable[valueSymbol], transfer: [movable[transferableSymbol]].flat() }
}
