/** One call under way, and how its end is told: the words of the call-function family. */

import { IpiError } from '../base/errors.ts'
import type { Outcome, Reader } from './call-book.ts'
import type { FunctionRecord, SharedFunction } from './functions.ts'
import type { AbortSignalLike } from './wait.ts'

/** How to call. */
export interface CallOptions {
  /** True (default): until the function has run everywhere. False: until it has started. */
  readonly wait?: boolean
  /** How long to wait, in milliseconds; default: the machine's `timeoutMs`. Infinity: for ever. */
  readonly timeoutMs?: number
  /** Ends the wait, not the function. Ignored by the Sync forms, which nobody can signal. */
  readonly signal?: AbortSignalLike
}

/** What a caller may pass as the function: a shared function, or the name of one. */
export type Callable<Info, Result> = SharedFunction<Info, Result> | string

/** A call to several CPUs that failed on at least one: the others' results are here all the same. */
export class SmpCallError extends IpiError {
  override readonly name = 'SmpCallError'
  /** What the CPUs that succeeded returned. */
  readonly results: ReadonlyMap<number, unknown>
  /** Why the others failed. */
  readonly errors: ReadonlyMap<number, unknown>

  constructor(
    functionName: string,
    results: ReadonlyMap<number, unknown>,
    errors: ReadonlyMap<number, unknown>,
  ) {
    const [cpu, first] = [...errors][0]!
    const message = first instanceof Error ? first.message : String(first)
    super(
      'IPI_CALL_FAILED',
      `"${functionName}" failed on ${errors.size} of ${errors.size + results.size} CPUs; ` +
        `CPU ${cpu}: ${message}`,
      { functionName, cpus: [...errors.keys()], cause: first },
    )
    this.results = results
    this.errors = errors
  }
}

/** One call under way: who has not answered, and what the others said. */
export class Call implements Reader {
  readonly record: FunctionRecord
  readonly results = new Map<number, unknown>()
  /** What failed, not yet made into errors. */
  readonly failures = new Map<number, () => unknown>()
  /** Targets that have not answered, with their slots. */
  readonly late = new Map<number, number>()
  onSettled: () => void = () => undefined

  constructor(record: FunctionRecord) {
    this.record = record
  }

  settle(cpu: number, outcome: Outcome): void {
    this.late.delete(cpu)
    if (outcome.ok) this.results.set(cpu, outcome.value)
    else this.failures.set(cpu, outcome.error)
    if (this.late.size === 0) this.onSettled()
  }
}

/** A call that is out, as the watchdog sees it. */
export interface OpenCall {
  readonly call: Call
  /** When it was made, on the platform's clock. */
  readonly start: number
}

/**
 * The answer of the one CPU that was asked; throws what it threw. Called in the caller's own turn,
 * after its await: errors made here have the caller's stack.
 */
export function onlyOutcome(call: Call, cpu: number): unknown {
  const failure = call.failures.get(cpu)
  if (failure !== undefined) throw failure()
  return call.results.get(cpu)
}

/** The answers of all, ascending. Throws {@link SmpCallError} if one failed. As `onlyOutcome`. */
export function allOutcomes(call: Call): Map<number, unknown> {
  const ascending = <T>(answers: Map<number, T>): [number, T][] =>
    [...answers].sort(([a], [b]) => a - b)
  if (call.failures.size > 0) {
    const errors = ascending(call.failures).map(([cpu, failure]) => [cpu, failure()] as const)
    throw new SmpCallError(call.record.name, new Map(ascending(call.results)), new Map(errors))
  }
  return new Map(ascending(call.results))
}
