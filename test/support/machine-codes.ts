/** Which test file provokes which error code: together, all of them. */

import assert from 'node:assert/strict'
import type { IpiErrorCode } from '../../src/index.ts'

export const CODES_BY_FILE = {
  'bad-calls': [
    'IPI_INVALID_ARGUMENT',
    'IPI_INVALID_VECTOR',
    'IPI_VECTOR_IN_USE',
    'IPI_NO_FREE_VECTOR',
    'IPI_INVALID_CPU',
    'IPI_CPU_OFFLINE',
    'IPI_NO_CPU',
    'IPI_UNKNOWN_FUNCTION',
    'IPI_DUPLICATE_FUNCTION',
    'IPI_ASYNC_FUNCTION',
    'IPI_UNCLONEABLE',
    'IPI_WOULD_DEADLOCK',
    'IPI_CALL_FAILED',
    'IPI_APIC_FAULT',
    'IPI_CANNOT_BLOCK',
  ],
  'bad-machines': [
    'IPI_INVALID_ARGUMENT',
    'IPI_ALREADY_BOOTED',
    'IPI_NOT_BOOTED',
    'IPI_BOOT_FAILED',
    'IPI_FOREIGN_MEMORY',
    'IPI_LAYOUT_VERSION',
    'IPI_NOT_SUPPORTED',
    'IPI_NO_FORCED_ENTRY',
    'IPI_MACHINE_CLOSED',
    'IPI_CPU_OFFLINE',
    'IPI_TIMEOUT',
  ],
  'bad-hotplug': [
    'IPI_CPU_BUSY',
    'IPI_CPU_ONLINE',
    'IPI_CPU_OFFLINE',
    'IPI_INVALID_CPU',
    'IPI_INVALID_ARGUMENT',
    'IPI_NO_FREE_CPU',
    'IPI_HOTPLUG_VETO',
    'IPI_BOOT_FAILED',
    'IPI_TIMEOUT',
  ],
  death: ['IPI_CPU_DIED'],
  abort: ['IPI_ABORTED'],
  store: ['IPI_STORE_FULL'],
  pool: ['IPI_POOL_CLOSED', 'IPI_QUEUE_FULL'],
  'memory-types': ['IPI_NO_FREE_RANGE', 'IPI_TYPE_CONFLICT'],
  'bad-caches': [
    'IPI_INVALID_ARGUMENT',
    'IPI_FLUSHED',
    'IPI_NOT_SUPPORTED',
    'IPI_WOULD_DEADLOCK',
    'IPI_TIMEOUT',
    'IPI_CPU_BUSY',
    'IPI_MACHINE_CLOSED',
  ],
} as const satisfies Record<string, readonly IpiErrorCode[]>

/** Collects the codes that a file provokes. */
export class Provoked {
  readonly #codes = new Set<string>()

  /** A call that must reject with a code, and never throw. Gives the error. */
  async rejects(code: IpiErrorCode, promise: Promise<unknown>): Promise<Error & { code: string }> {
    const error = await promise.then(
      (value) => assert.fail(`resolved with ${String(value)}, expected ${code}`),
      (reason: unknown) => reason as Error & { code: string },
    )
    return this.#note(code, error)
  }

  /** A call that must throw a code. Gives the error. */
  throws(code: IpiErrorCode, run: () => unknown): Error & { code: string } {
    try {
      run()
    } catch (error) {
      return this.#note(code, error as Error & { code: string })
    }
    return assert.fail(`nothing was thrown, expected ${code}`)
  }

  /** Whether an error bears a code: for `assert.throws` and `assert.rejects`. */
  is(code: IpiErrorCode, error: unknown): true {
    this.#note(code, error as Error & { code: string })
    return true
  }

  #note(code: string, error: Error & { code: string }): Error & { code: string } {
    assert.equal(error.code, code, error.stack)
    assert.ok(error.message.length > 10, 'a message says more than the code')
    this.#codes.add(code)
    return error
  }

  /** Fails unless exactly the codes that the file promises were provoked. */
  expect(file: keyof typeof CODES_BY_FILE): void {
    assert.deepEqual([...this.#codes].sort(), [...CODES_BY_FILE[file]].sort())
  }
}
