/**
 * Shared functions: what a call-function interrupt can run. Functions cannot be shared between
 * threads, so every thread registers its own under a name, and requests carry the name's hash.
 */

import { IpiError } from '../base/errors.ts'
import { fnv1a, FNV_OFFSET } from '../base/fnv.ts'
import type { FunctionId } from './request.ts'

/** What an author says of a shared function. */
export interface SharedFunctionOptions {
  /**
   * The function may be entered in the middle of other JavaScript of its thread: it is short and
   * synchronous, takes no lock that the interrupted code may hold, and relies on no state that the
   * interrupted code may have half changed. Default false.
   */
  readonly interruptSafe?: boolean
}

/** A function that every CPU knows by name. Called directly, it runs here like any function. */
export type SharedFunction<Info = never, Result = unknown> = ((info: Info) => Result) & {
  /** The name it bears on every CPU. */
  readonly sharedName: string
  /** Whether its author declared it safe in the middle of other code. */
  readonly interruptSafe: boolean
}

/** A shared function as the table keeps it. */
export interface FunctionRecord {
  readonly id: FunctionId
  readonly name: string
  readonly interruptSafe: boolean
  readonly run: (info: unknown) => unknown
  /** Declared with `async`: known to be unfit for interrupts before anything is sent. */
  readonly isAsync: boolean
}

/** The functions of one thread, by name and by hash. */
export class FunctionTable {
  readonly #byName = new Map<string, FunctionRecord>()
  readonly #byId = new Map<number, FunctionRecord[]>()
  readonly #byFunction = new WeakMap<object, FunctionRecord>()
  readonly #parent: FunctionTable | undefined

  /** `parent` is asked for what this table does not have: the thread's table, for a CPU's own. */
  constructor(parent?: FunctionTable) {
    this.#parent = parent
  }

  /**
   * Registers `fn` under `name`. Throws `IPI_INVALID_ARGUMENT`, or `IPI_DUPLICATE_FUNCTION` if
   * another function of this thread bears the name.
   */
  register<Info = unknown, Result = unknown>(
    name: string,
    fn: (info: Info) => Result,
    options: SharedFunctionOptions = {},
  ): SharedFunction<Info, Result> {
    if (typeof name !== 'string' || name === '' || typeof fn !== 'function') {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        'sharedFunction(name, fn, options) takes a non-empty name and a function',
      )
    }
    if (this.#byName.has(name)) {
      throw new IpiError(
        'IPI_DUPLICATE_FUNCTION',
        `a shared function named "${name}" exists already in this thread; names are how other ` +
          'threads find functions: give this one another',
        { functionName: name },
      )
    }
    const interruptSafe = options.interruptSafe === true
    const record: FunctionRecord = {
      id: hashName(name),
      name,
      interruptSafe,
      run: fn as (info: unknown) => unknown,
      isAsync: fn.constructor.name === 'AsyncFunction',
    }
    const shared = Object.assign((info: Info) => fn(info), {
      sharedName: name,
      interruptSafe,
    })
    Object.defineProperty(shared, 'name', { value: name })
    this.#byName.set(name, record)
    const sameLow = this.#byId.get(record.id.low)
    if (sameLow === undefined) this.#byId.set(record.id.low, [record])
    else sameLow.push(record)
    this.#byFunction.set(shared, record)
    return shared
  }

  /** The function of a hash, as a request names it. */
  find(low: number, high: number): FunctionRecord | undefined {
    const candidates = this.#byId.get(low)
    if (candidates !== undefined) {
      for (const record of candidates) if (record.id.high === high) return record
    }
    return this.#parent?.find(low, high)
  }

  /**
   * The record of what a caller passed: a shared function, or the name of one, which this thread
   * need not know. Throws `IPI_UNKNOWN_FUNCTION` for a plain function.
   */
  resolve(fn: unknown): FunctionRecord {
    if (typeof fn === 'string' && fn !== '') return this.#named(fn) ?? nameOnly(fn)
    const record = typeof fn === 'function' ? this.#of(fn) : undefined
    if (record !== undefined) return record
    throw new IpiError(
      'IPI_UNKNOWN_FUNCTION',
      typeof fn === 'function'
        ? `the function "${fn.name}" is not shared: threads cannot pass functions to each other; ` +
            "export const f = sharedFunction('name', fn) from a module that every thread imports"
        : `expected a shared function, got ${String(fn)}`,
      typeof fn === 'function' ? { functionName: fn.name } : {},
    )
  }

  #named(name: string): FunctionRecord | undefined {
    return (
      this.#byName.get(name) ?? (this.#parent === undefined ? undefined : this.#parent.#named(name))
    )
  }

  #of(fn: object): FunctionRecord | undefined {
    return (
      this.#byFunction.get(fn) ?? (this.#parent === undefined ? undefined : this.#parent.#of(fn))
    )
  }

  /** The name behind a hash, for diagnostics; the hash itself if this thread does not know it. */
  describe(low: number, high: number): string {
    return (
      this.find(low, high)?.name ??
      `function ${(low >>> 0).toString(16).padStart(8, '0')}${(high >>> 0).toString(16).padStart(8, '0')}`
    )
  }
}

/** A function known by name only: it can be called on CPUs that have it, not on this one. */
function nameOnly(name: string): FunctionRecord {
  return {
    id: hashName(name),
    name,
    interruptSafe: false,
    isAsync: false,
    run: () => {
      throw new IpiError('IPI_UNKNOWN_FUNCTION', `this thread has no shared function "${name}"`, {
        functionName: name,
      })
    },
  }
}

/**
 * Two independent 32-bit FNV-1a hashes of a name. With 64 bits two names of one program do not meet
 * (10,000 names: one chance in 10^11).
 */
export function hashName(name: string): FunctionId {
  let low = FNV_OFFSET
  let high = 0x9747b28c
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i)
    low = fnv1a(low, unit)
    high = fnv1a(high, unit + i) ^ (high >>> 15)
  }
  return { low, high: high | 0 }
}
