/**
 * Planning a call: who is to be asked, and whether it may be asked now. Everything that can be wrong
 * with a call before anything is sent is found here.
 */

import { CpuMask, MASK_WORDS, type CpuSet } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { HEADER } from '../hardware/layout.ts'
import type { CallOptions } from './call.ts'
import type { Cpu } from './cpu.ts'
import { checkForcedEntry, type ForcedEntry } from './forced.ts'
import type { FunctionRecord, FunctionTable } from './functions.ts'
import type { AbortSignalLike } from './suspended-wait.ts'
import type { Waits } from './wait.ts'

/** Everything a call needs, checked. */
export interface CallPlan {
  readonly record: FunctionRecord
  /** The other CPUs that run the function. */
  readonly targets: readonly number[]
  /** Whether this CPU runs it too. */
  readonly local: boolean
  /** Whether a mask was asked for: whoever has left it meanwhile is passed over. */
  readonly mask: boolean
  readonly info: unknown
  readonly wait: boolean
  readonly timeoutMs: number
  /** After how long those who are late are entered by force; Infinity: never. */
  readonly forceAfterMs: number
  readonly signal: AbortSignalLike | undefined
}

/** What planning stands on. */
export interface CallPlannerParts {
  readonly cpu: Cpu
  readonly functions: FunctionTable
  readonly waits: Waits
  /** The deadline of a call that names none, in milliseconds. */
  readonly timeoutMs: number
  /** After how long a call that does not say is forced on those who are late, in milliseconds. */
  readonly forceAfterMs: number
  readonly forced: ForcedEntry
}

/** Plans the calls of one CPU. Throws, changing nothing, what is wrong with them. */
export class CallPlanner {
  readonly #cpu: Cpu
  readonly #functions: FunctionTable
  readonly #waits: Waits
  readonly #timeoutMs: number
  readonly #forceAfterMs: number
  readonly #forced: ForcedEntry
  /** The online map as it was, and the others in it: they change rarely. */
  readonly #online = new Int32Array(MASK_WORDS)
  #others: readonly number[] = []

  constructor(parts: CallPlannerParts) {
    this.#cpu = parts.cpu
    this.#functions = parts.functions
    this.#waits = parts.waits
    this.#timeoutMs = parts.timeoutMs
    this.#forceAfterMs = parts.forceAfterMs
    this.#forced = parts.forced
  }

  /** The online CPUs but this one, ascending. */
  others(): readonly number[] {
    const { memory, id } = this.#cpu
    if (memory.refreshMask(HEADER.onlineMask, this.#online)) {
      this.#others = [...CpuMask.fromWords(this.#online).without(id)]
    }
    return this.#others
  }

  /** The online CPUs of what a caller passed, but this one. Throws `IPI_INVALID_CPU`. */
  othersOf(mask: CpuSet): readonly number[] {
    return [...this.#onlineOf(mask).without(this.#cpu.id)]
  }

  #onlineOf(mask: CpuSet): CpuMask {
    const wanted = CpuMask.from(mask)
    for (const cpu of wanted) this.#cpu.checkPossible(cpu)
    return wanted.and(this.#cpu.memory.onlineMask)
  }

  /** One CPU of a mask: this one, or else the lowest online. Throws `IPI_NO_CPU`. */
  choose(mask: CpuSet): number {
    const online = this.#onlineOf(mask)
    if (online.isEmpty) {
      throw new IpiError(
        'IPI_NO_CPU',
        `no CPU of the mask {${CpuMask.from(mask).toString()}} is online; online are ` +
          `{${this.#cpu.memory.onlineMask.toString()}}`,
        { cpus: [...CpuMask.from(mask)] },
      )
    }
    return online.has(this.#cpu.id) ? this.#cpu.id : online.first()
  }

  /** A call to one CPU, which may be this one. Whether it is online shows when it is sent. */
  planSingle(
    what: string,
    target: number,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
    blocking: boolean,
  ): CallPlan {
    this.#cpu.checkPossible(target)
    const local = target === this.#cpu.id
    const targets = local ? [] : [target]
    return this.#check(what, { targets, local, mask: false, info }, fn, options, blocking)
  }

  /** A call to the CPUs of a mask, and to this one if `local`. */
  planMany(
    what: string,
    targets: readonly number[],
    local: boolean,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
    blocking: boolean,
  ): CallPlan {
    return this.#check(what, { targets, local, mask: true, info }, fn, options, blocking)
  }

  #check(
    what: string,
    where: Pick<CallPlan, 'targets' | 'local' | 'mask' | 'info'>,
    fn: unknown,
    options: CallOptions | undefined,
    blocking: boolean,
  ): CallPlan {
    const record = this.#functions.resolve(fn)
    const { wait = true, timeoutMs = this.#timeoutMs, signal } = options ?? {}
    checkTimeout(timeoutMs)
    const forceAfterMs = this.#checkForce(options?.forceAfterMs)
    if (signal !== undefined) checkSignal(signal)
    if (record.isAsync) {
      throw new IpiError(
        'IPI_ASYNC_FUNCTION',
        `"${record.name}" is an async function: what an interrupt runs must be synchronous; start ` +
          'asynchronous work and return, or run it as a task',
        { functionName: record.name },
      )
    }
    this.#waits.checkOpen()
    // Alone there is nobody to wait for: no lock, no interrupt, no check.
    if (where.targets.length > 0) this.#waits.checkMayWait(what, blocking)
    const { targets, local, mask, info } = where
    return { record, targets, local, mask, info, wait, timeoutMs, forceAfterMs, signal }
  }

  #checkForce(asked: number | undefined): number {
    if (asked === undefined) return this.#forceAfterMs
    checkForceAfter(asked)
    if (asked !== Infinity) checkForcedEntry(this.#forced.capabilities, 'forceAfterMs')
    return asked
  }
}

/** Throws `IPI_INVALID_ARGUMENT` for what is no time to wait. */
export function checkTimeout(timeoutMs: number): void {
  if (typeof timeoutMs === 'number' && timeoutMs >= 0) return
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `timeoutMs is milliseconds >= 0, got ${String(timeoutMs)}`,
  )
}

function checkSignal(signal: AbortSignalLike): void {
  if (signal !== null && typeof signal === 'object') {
    const canListen =
      typeof signal.addEventListener === 'function' &&
      typeof signal.removeEventListener === 'function'
    if (typeof signal.aborted === 'boolean' && canListen) return
  }
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `signal is an AbortSignal, got ${typeof signal}; pass controller.signal or ` +
      'AbortSignal.timeout(ms)',
  )
}

/** Checks a time after which force is used. Throws `IPI_INVALID_ARGUMENT`. */
export function checkForceAfter(forceAfterMs: number): number {
  if (typeof forceAfterMs === 'number' && forceAfterMs >= 1) return forceAfterMs
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `forceAfterMs is milliseconds >= 1 or Infinity, got ${String(forceAfterMs)}`,
  )
}
