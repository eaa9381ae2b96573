/** One call under way, and how its end is told: the words of the call-function family. */

import type { BagMember } from '../base/bag.ts'
import { IpiError } from '../base/errors.ts'
import type { Overdue } from './escalation.ts'
import type { Outcome, Reader } from './open-requests.ts'
import type { FunctionRecord, SharedFunction } from './functions.ts'
import type { AbortSignalLike, SuspendedWait } from './suspended-wait.ts'

/** How to call. */
export interface CallOptions {
  /** True (default): until the function has run everywhere. False: until it has started. */
  readonly wait?: boolean
  /** How long to wait, in milliseconds; default: the machine's `timeoutMs`. Infinity: for ever. */
  readonly timeoutMs?: number
  /**
   * After how many milliseconds a CPU that has not begun to answer is entered by force; default: the
   * machine's `forceAfterMs`. Only for functions shared with `{ interruptSafe: true }`.
   */
  readonly forceAfterMs?: number
  /** Ends the wait, not the function. Ignored by the Sync forms, which nobody can signal. */
  readonly signal?: AbortSignalLike
}

/** What a caller may pass as the function: a shared function, or the name of one. */
export type Callable<Info, Result> = SharedFunction<Info, Result> | string

/** A call to several CPUs that failed on at least one: the others' results are here all the same. */
export class SmpCallError extends IpiError {
  override readonly name = 'SmpCallError'
  /** What the CPUs that succeeded returned. */
  declare readonly results: ReadonlyMap<number, unknown>
  /** Why the others failed. */
  declare readonly errors: ReadonlyMap<number, unknown>

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
      { functionName, cpus: [...errors.keys()], results, errors, cause: first },
    )
  }
}

/** The outcome of a CPU of a mask that left it before it was asked: it is not in the results. */
export const SKIPPED: Outcome = { ok: true, value: undefined }

/** One call under way: who was asked, who has answered, and what. */
export class Call implements Reader {
  readonly record: FunctionRecord
  /** The CPUs that run the function, this one last if it is among them. */
  readonly cpus: readonly number[]
  /** What each of them answered, in the same order. */
  readonly outcomes: (Outcome | undefined)[]
  /** The slots of the remote ones, in the same order. */
  slots: readonly number[] = []
  /** How many have not answered. */
  lateCount: number
  onSettled: (() => void) | undefined
  /** How those who are late are entered by force, if they are. */
  overdue: Overdue | undefined
  /** Whether somebody wanted that. */
  readonly #wantsForce: boolean
  /** Whether a CPU that is not online is passed over: a mask was asked for. */
  readonly #skipOffline: boolean

  constructor(
    record: FunctionRecord,
    cpus: readonly number[],
    skipOffline: boolean,
    wantsForce: boolean,
  ) {
    this.#skipOffline = skipOffline
    this.#wantsForce = wantsForce
    this.record = record
    this.cpus = cpus
    this.outcomes = []
    this.lateCount = cpus.length
  }

  settle(cpu: number, outcome: Outcome): void {
    const skipped = this.#skipOffline && !outcome.ok && outcome.offline === true
    this.outcomes[this.cpus.indexOf(cpu)] = skipped ? SKIPPED : outcome
    if (--this.lateCount === 0) this.onSettled?.()
  }

  /** Whether the CPU at this place has answered. */
  hasAnswered(place: number): boolean {
    return this.outcomes[place] !== undefined
  }

  /** What force has done for those who are late, in words; empty if nobody wanted any. */
  describeForce(): string {
    if (!this.#wantsForce) return ''
    const { name, interruptSafe } = this.record
    if (!interruptSafe) {
      return `It was not forced on them: "${name}" is not shared with { interruptSafe: true }`
    }
    const count = this.overdue?.forcedCount ?? 0
    if (count === 0) return ''
    return (
      `They were entered by force ${count} times, in vain: interrupts are off there, something that ` +
      'is not interrupt-safe comes first, or their JavaScript never looks'
    )
  }

  /** The CPUs that have not answered. */
  late(): number[] {
    return this.cpus.filter((_, place) => !this.hasAnswered(place))
  }
}

/** A call that is out, as the watchdog sees it. */
export interface OpenCall extends BagMember {
  readonly call: Call
  /** When it was made, on the platform's clock. */
  readonly start: number
  /** What its promise hangs on, if it has one. */
  readonly wait?: SuspendedWait
}

/**
 * The answer of the one CPU that was asked; throws what it threw. Called in the caller's own turn,
 * after its await: errors made here have the caller's stack.
 */
export function onlyOutcome(call: Call): unknown {
  const outcome = call.outcomes[0]!
  if (!outcome.ok) throw outcome.error()
  return outcome.value
}

/** The answers of all, ascending. Throws {@link SmpCallError} if one failed. As `onlyOutcome`. */
export function allOutcomes(call: Call): Map<number, unknown> {
  const { results, errors } = sortOutcomes(call)
  if (errors.size > 0) throw new SmpCallError(call.record.name, results, errors)
  return results
}

/** What has been answered so far, by CPU, ascending. */
export function sortOutcomes(call: Call): {
  readonly results: Map<number, unknown>
  readonly errors: Map<number, unknown>
} {
  const results = new Map<number, unknown>()
  const errors = new Map<number, unknown>()
  const add = (place: number): void => {
    const outcome = call.outcomes[place]
    if (outcome === undefined || outcome === SKIPPED) return
    if (outcome.ok) results.set(call.cpus[place]!, outcome.value)
    else errors.set(call.cpus[place]!, outcome.error())
  }
  // The remote ones ascend, and behind them stands the caller if it took part.
  const remote = call.slots.length
  const own = call.cpus[remote] ?? Infinity
  let place = 0
  while (place < remote && call.cpus[place]! < own) add(place++)
  if (own < Infinity) add(remote)
  while (place < remote) add(place++)
  return { results, errors }
}
