/** What is evaluated in each thread of the other process, in the middle of what it does. */

/** What a thread says of itself. */
export interface Probed {
  /** The JavaScript that it runs, newest first; empty if none. */
  readonly stack: string
  /** If it runs none: what its event loop waits for. */
  readonly waitsFor: readonly string[]
  /** If it belongs to a machine: its CPU, then the others as they look to it; see kernel/backtrace.ts. */
  readonly cpus: readonly ProbedCpu[]
}

/** One CPU, printed. */
export interface ProbedCpu {
  readonly cpu: number
  readonly activity: string
  readonly text: string
}

/** Travels as its own text: it uses nothing of this module, and nothing that is younger than Node 18. */
function probe(): Probed {
  const { stackTraceLimit } = Error
  const prepare: unknown = Reflect.get(Error, 'prepareStackTrace')
  Reflect.deleteProperty(Error, 'prepareStackTrace')
  Error.stackTraceLimit = 200
  // The first line is the message; then come this function and the line that calls it.
  const stack = (new Error('').stack ?? '').split('\n').slice(3).join('\n')
  Error.stackTraceLimit = stackTraceLimit
  if (prepare !== undefined) Reflect.set(Error, 'prepareStackTrace', prepare)
  const state = Reflect.get(globalThis, Symbol.for('interprocessor.thread.1')) as
    { readonly look?: (stack: string) => ProbedCpu[] } | undefined
  return {
    stack,
    waitsFor: stack === '' ? process.getActiveResourcesInfo() : [],
    cpus: state?.look?.(stack) ?? [],
  }
}

/** Gives what `probe` found, by value. */
export const PROBE = `(${probe.toString()})()`

/** Closes the debugger's port. Not every Node has `getBuiltinModule`, and no module has `require`. */
export const CLOSE_PORT = `(process.getBuiltinModule ? process.getBuiltinModule('node:inspector') : require('node:inspector')).close()`
