/**
 * The call-function family as programs see it: typed names over kernel/smp.ts. All may be called from
 * tasks with interrupts on, never from handlers; every failure of a promise form rejects.
 */

import type { CpuSet } from '../base/cpu-mask.ts'
import type { Callable, CallOptions } from './call.ts'
import type { CallFunction } from './smp.ts'

/** What a {@link Machine} inherits: the ways to run a function on other CPUs. */
export class CallFamily {
  readonly #calls: CallFunction

  /** @internal */
  constructor(calls: CallFunction) {
    this.#calls = calls
  }

  /**
   * Runs `fn` on every online CPU but this one, with interrupts off there. Resolves with the results
   * by CPU; with `wait: false` as soon as it has started everywhere. Rejects with `IPI_CALL_FAILED`
   * (a {@link SmpCallError}) if it failed somewhere, `IPI_TIMEOUT`, the signal's reason,
   * `IPI_UNKNOWN_FUNCTION`, `IPI_ASYNC_FUNCTION`, `IPI_UNCLONEABLE`, `IPI_WOULD_DEADLOCK`.
   */
  smpCallFunction<Info, Result>(
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Promise<Map<number, Result>> {
    return this.#calls.all(fn, info, options) as Promise<Map<number, Result>>
  }

  /** Runs `fn` on one CPU. Rejects with what it threw there, `IPI_CPU_OFFLINE`, `IPI_CPU_DIED`, … */
  smpCallFunctionSingle<Info, Result>(
    cpu: number,
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Promise<Result> {
    return this.#calls.single(cpu, fn, info, options) as Promise<Result>
  }

  /** Runs `fn` on the online CPUs of `mask`, without this one. */
  smpCallFunctionMany<Info, Result>(
    mask: CpuSet,
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Promise<Map<number, Result>> {
    return this.#calls.many(mask, fn, info, options) as Promise<Map<number, Result>>
  }

  /** Runs `fn` on one online CPU of `mask`, this one if possible. Rejects with `IPI_NO_CPU`. */
  smpCallFunctionAny<Info, Result>(
    mask: CpuSet,
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Promise<Result> {
    return this.#calls.any(mask, fn, info, options) as Promise<Result>
  }

  /** Runs `fn` on every online CPU, this one too. */
  onEachCpu<Info, Result>(
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Promise<Map<number, Result>> {
    return this.#calls.each(fn, info, options) as Promise<Map<number, Result>>
  }

  /** Blocks until `fn` has run on every other CPU; takes interrupts meanwhile. */
  smpCallFunctionSync<Info, Result>(
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Map<number, Result> {
    return this.#calls.allSync(fn, info, options) as Map<number, Result>
  }

  /** Blocks until `fn` has run on one CPU. */
  smpCallFunctionSingleSync<Info, Result>(
    cpu: number,
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Result {
    return this.#calls.singleSync(cpu, fn, info, options) as Result
  }

  /** Blocks until `fn` has run on the online CPUs of `mask`, without this one. */
  smpCallFunctionManySync<Info, Result>(
    mask: CpuSet,
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Map<number, Result> {
    return this.#calls.manySync(mask, fn, info, options) as Map<number, Result>
  }

  /** Blocks until `fn` has run on one online CPU of `mask`. */
  smpCallFunctionAnySync<Info, Result>(
    mask: CpuSet,
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Result {
    return this.#calls.anySync(mask, fn, info, options) as Result
  }

  /** Blocks until `fn` has run on every CPU, this one too. */
  onEachCpuSync<Info, Result>(
    fn: Callable<Info, Result>,
    info?: Info,
    options?: CallOptions,
  ): Map<number, Result> {
    return this.#calls.eachSync(fn, info, options) as Map<number, Result>
  }
}
