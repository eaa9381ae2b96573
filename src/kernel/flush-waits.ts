/** Waiting for flushes under way: with a deadline, by force where that helps, and with an accusation. */

import { IpiError } from '../base/errors.ts'
import type { Cpu } from './cpu.ts'
import { describeTarget } from './diagnose.ts'
import type { Escalation, Overdue } from './escalation.ts'
import type { FunctionTable } from './functions.ts'
import type { SharedOptions } from './protocol.ts'
import type { FlushRequest } from './shootdown.ts'
import type { AbortSignalLike } from './suspended-wait.ts'
import type { Waits } from './wait.ts'

/** What it needs of its kernel. */
interface FlushParts {
  readonly cpu: Cpu
  readonly waits: Waits
  readonly escalation: Escalation
  readonly functions: FunctionTable
  readonly options: SharedOptions
}

/** The waits of one CPU for flushes of its own. Private to its thread. */
export class FlushWaits {
  readonly #parts: FlushParts
  /** The deadline of a wait that names none, in milliseconds. */
  readonly timeoutMs: number

  constructor(parts: FlushParts) {
    this.#parts = parts
    this.timeoutMs = parts.options.timeoutMs
  }

  /** Waits until a flush is over. Rejects with `IPI_TIMEOUT`, or the signal's reason. */
  async until(
    request: FlushRequest | undefined,
    timeoutMs = this.timeoutMs,
    signal?: AbortSignalLike,
  ): Promise<void> {
    if (request === undefined) return
    const { waits, escalation } = this.#parts
    const overdue = this.#escalate(request)
    try {
      const onTimeout = (): IpiError => this.#timeout(request, timeoutMs)
      await waits.until(request.finish, timeoutMs, onTimeout, signal)
    } finally {
      if (overdue !== undefined) escalation.forget(overdue)
    }
  }

  /** The blocking form. Throws `IPI_TIMEOUT`. */
  block(request: FlushRequest | undefined, timeoutMs = this.timeoutMs): void {
    if (request === undefined) return
    const { waits, escalation } = this.#parts
    const overdue = this.#escalate(request)
    try {
      if (!waits.block(request.finish, timeoutMs)) throw this.#timeout(request, timeoutMs)
    } finally {
      if (overdue !== undefined) escalation.forget(overdue)
    }
  }

  /** Flushing is interrupt-safe: whoever is late is entered by force, if the machine does that. */
  #escalate({ late }: FlushRequest): Overdue | undefined {
    const { forceAfterMs } = this.#parts.options
    return forceAfterMs === Infinity ? undefined : this.#parts.escalation.watch(late, forceAfterMs)
  }

  /**
   * A flush that holds a lock goes on without its caller: the lock is given back only when the last CPU
   * has flushed, or the next flush would overwrite a request that somebody has still to read.
   */
  #timeout(request: FlushRequest, waitedMs: number): IpiError {
    const { cpu, functions, waits } = this.#parts
    const late = request.late()
    if (request.mustFinish) {
      waits.until(request.finish, Infinity, () => undefined).catch(() => undefined)
    }
    const doing = late.map((each) => describeTarget(cpu, functions, each)).join('; ')
    return new IpiError('IPI_TIMEOUT', `flush not acknowledged in ${waitedMs} ms: ${doing}`, {
      cpus: late,
      waitedMs,
    })
  }
}
