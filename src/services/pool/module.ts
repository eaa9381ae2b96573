/**
 * The exports of a module as functions that run in the pool: `pool.module<typeof import('./tasks.js')>`.
 * Each CPU imports the module when it is first asked.
 */

import type { RunOptions } from './options.ts'

/** What a call of such a function carries. */
export interface ModuleCall {
  readonly url: string
  readonly name: string
  readonly args: readonly unknown[]
}

/** The functions of a module, as a pool runs them: each gives a promise of what it gave. */
export type PooledModule<Exports> = {
  readonly [
    Name in keyof Exports as Exports[Name] extends (...args: never[]) => unknown ? Name : never
  ]: Exports[Name] extends (...args: infer Args) => infer Result
    ? PooledFunction<Args, Awaited<Result>>
    : never
}

/** One of them. `with` gives the same function with options for its task. */
export type PooledFunction<Args extends unknown[], Result> = ((
  ...args: Args
) => Promise<Result>) & {
  with(options: RunOptions): (...args: Args) => Promise<Result>
}

type Run = (call: ModuleCall, options: RunOptions | undefined) => Promise<unknown>

/** Makes the functions of a module, each when it is first asked for. */
export function pooledModule<Exports>(url: string, run: Run): PooledModule<Exports> {
  const made = new Map<string, unknown>()
  const make = (name: string): unknown => {
    const withOptions =
      (options?: RunOptions) =>
      (...args: unknown[]): Promise<unknown> =>
        run({ url, name, args }, options)
    return Object.assign(withOptions(), { with: withOptions })
  }
  return new Proxy(Object.create(null) as object, {
    get: (_, name) => {
      // Whoever awaits the module, or prints it, wants none of its functions.
      if (typeof name !== 'string' || name === 'then') return undefined
      if (!made.has(name)) made.set(name, make(name))
      return made.get(name)
    },
  }) as PooledModule<Exports>
}
