/**
 * The call-function family: run a function on other CPUs and know that it ran. Linux `kernel/smp.c`
 * (smp_call_function_single, _any, _many, on_each_cpu) over either call driver.
 */

import type { CpuSet } from '../base/cpu-mask.ts'
import { allOutcomes, onlyOutcome, type CallOptions } from './call.ts'
import { CallPlanner, type CallPlannerParts } from './call-plan.ts'
import type { OutgoingCalls } from './outgoing-calls.ts'

/** The family on one CPU. Any CPU may call any other; none of it passes through a third. */
export class CallFunction {
  readonly #planner: CallPlanner
  readonly #outgoing: OutgoingCalls

  constructor(parts: CallPlannerParts, outgoing: OutgoingCalls) {
    this.#planner = new CallPlanner(parts)
    this.#outgoing = outgoing
  }

  /** `smp_call_function`: every online CPU but this one. Alone it sends nothing and returns. */
  async all(fn: unknown, info: unknown, options?: CallOptions): Promise<Map<number, unknown>> {
    return this.#many(this.#planner.others(), false, fn, info, options)
  }

  /** `smp_call_function_many`: the online CPUs of a mask, without this one. */
  async many(
    mask: CpuSet,
    fn: unknown,
    info: unknown,
    options?: CallOptions,
  ): Promise<Map<number, unknown>> {
    return this.#many(this.#planner.othersOf(mask), false, fn, info, options)
  }

  /** `on_each_cpu`: every online CPU, this one too, which runs it with interrupts off as well. */
  async each(fn: unknown, info: unknown, options?: CallOptions): Promise<Map<number, unknown>> {
    return this.#many(this.#planner.others(), true, fn, info, options)
  }

  /** `smp_call_function_single`: one CPU; if it is this one, here with interrupts off. */
  async single(
    target: number,
    fn: unknown,
    info: unknown,
    options?: CallOptions,
  ): Promise<unknown> {
    const plan = this.#planner.planSingle('smpCallFunctionSingle', target, fn, info, options, false)
    return onlyOutcome(await this.#outgoing.await(plan))
  }

  /** `smp_call_function_any`: this CPU if it is in the mask, or else any online one of the mask. */
  async any(mask: CpuSet, fn: unknown, info: unknown, options?: CallOptions): Promise<unknown> {
    return this.single(this.#planner.choose(mask), fn, info, options)
  }

  /** The blocking form of `all`. */
  allSync(fn: unknown, info: unknown, options?: CallOptions): Map<number, unknown> {
    return this.#manySync(this.#planner.others(), false, fn, info, options)
  }

  /** The blocking form of `many`. */
  manySync(mask: CpuSet, fn: unknown, info: unknown, options?: CallOptions): Map<number, unknown> {
    return this.#manySync(this.#planner.othersOf(mask), false, fn, info, options)
  }

  /** The blocking form of `each`. */
  eachSync(fn: unknown, info: unknown, options?: CallOptions): Map<number, unknown> {
    return this.#manySync(this.#planner.others(), true, fn, info, options)
  }

  /** The blocking form of `single`. */
  singleSync(target: number, fn: unknown, info: unknown, options?: CallOptions): unknown {
    const plan = this.#planner.planSingle(
      'smpCallFunctionSingleSync',
      target,
      fn,
      info,
      options,
      true,
    )
    return onlyOutcome(this.#outgoing.block(plan))
  }

  /** The blocking form of `any`. */
  anySync(mask: CpuSet, fn: unknown, info: unknown, options?: CallOptions): unknown {
    return this.singleSync(this.#planner.choose(mask), fn, info, options)
  }

  /** What stop-machine and set_mtrr ask of the others: see {@link OutgoingCalls.rendezvous}. */
  rendezvous(
    what: string,
    mask: CpuSet,
    fn: unknown,
    info: unknown,
    timeoutMs: number,
    options: CallOptions | undefined,
    meanwhile: () => boolean,
  ): ReturnType<OutgoingCalls['rendezvous']> {
    const targets = this.#planner.othersOf(mask)
    const plan = this.#planner.planMany(what, targets, false, fn, info, options, true)
    return this.#outgoing.rendezvous(plan, timeoutMs, meanwhile)
  }

  async #many(
    targets: readonly number[],
    local: boolean,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
  ): Promise<Map<number, unknown>> {
    const plan = this.#planner.planMany('smpCallFunction', targets, local, fn, info, options, false)
    return allOutcomes(await this.#outgoing.await(plan))
  }

  #manySync(
    targets: readonly number[],
    local: boolean,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
  ): Map<number, unknown> {
    const what = 'smpCallFunctionSync'
    const plan = this.#planner.planMany(what, targets, local, fn, info, options, true)
    return allOutcomes(this.#outgoing.block(plan))
  }
}
