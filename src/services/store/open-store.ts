/** Opening a shared store: the same memory for all threads that say the same name. */

import { IpiError } from '../../base/errors.ts'
import type { Machine } from '../../kernel/machine.ts'
import { namedMemory } from '../../kernel/named-memory.ts'
import { isForeign, ORDER_MAX, storeWordsMin } from './layout.ts'
import { SharedStore } from './shared-store.ts'

/** Which store, and how large it may become. */
export interface StoreOptions {
  /** The same in every thread: stores of one name are one store. */
  readonly name: string
  /**
   * How many bytes it may take in all. Default 64 MiB. They are reserved at once and taken from the
   * machine when they are used. Whoever opens it first says it.
   */
  readonly bytes?: number
}

const DEFAULT_BYTES = 64 * 2 ** 20

/** What `openStore` of index.ts does. */
export async function open<Value>(
  machine: Machine,
  { name, bytes = DEFAULT_BYTES }: StoreOptions,
): Promise<SharedStore<Value>> {
  const { cpu, waits, calls } = machine.kernel
  const min = 4 * storeWordsMin(cpu.memory.cpuCount)
  const max = 4 * 2 ** ORDER_MAX
  if (typeof name !== 'string' || name === '') {
    throw new IpiError('IPI_INVALID_ARGUMENT', 'openStore takes a name that is not empty')
  }
  if (!Number.isInteger(bytes) || bytes < min || bytes > max) {
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `bytes of a store is an integer from ${min} to ${max}, got ${String(bytes)}`,
    )
  }
  const buffer = await namedMemory(calls, `store:${name}`, Math.ceil(bytes / 64) * 64)
  const words = new Int32Array(buffer)
  if (isForeign(words, cpu.memory.cpuCount)) {
    throw new IpiError('IPI_FOREIGN_MEMORY', `"${name}" is no store of this machine`)
  }
  return new SharedStore<Value>({ cpu, waits }, words)
}
