/** `interprocessor call`: runs a function of the user's own module on every CPU, prints each result. */

import { inspect } from 'node:util'
import { boot, isIpiError, type Machine } from '../index.ts'
import { UsageError } from './failure.ts'
import { entryFor, loadUserFunction, type UserFunction } from './user-module.ts'

/** The options of the command. */
export interface CallOptions {
  readonly cpus?: number
  readonly timeoutMs: number
  readonly json?: boolean
}

/** What became of the function on one CPU. */
type Outcome =
  | { readonly cpu: number; readonly ok: true; readonly result: unknown }
  | { readonly cpu: number; readonly ok: false; readonly error: unknown }

/** Runs the command; gives its exit status. Throws {@link UsageError} for wrong input. */
export async function call(
  path: string,
  name: string,
  json: string | undefined,
  options: CallOptions,
): Promise<number> {
  const info = parseJson(json)
  const fn = await loadUserFunction(path, name)
  const machine = await bootWith(fn, options)
  const outcomes = await runEverywhere(machine, fn, info)
  if (options.json === true) printJson(fn, outcomes)
  else printText(outcomes)
  // A CPU that is still in the function would be waited for; the end of the process ends it too.
  if (!outcomes.some(isLate)) await machine.close()
  return outcomes.every(({ ok }) => ok) ? 0 : 1
}

function parseJson(json: string | undefined): unknown {
  if (json === undefined) return undefined
  try {
    return JSON.parse(json) as unknown
  } catch (error) {
    throw new UsageError(
      `the argument is not JSON: ${(error as Error).message}. Quote it for the shell, and strings ` +
        `for JSON: '"text"', '{ "level": 3 }'`,
    )
  }
}

async function bootWith(fn: UserFunction, { cpus, timeoutMs }: CallOptions): Promise<Machine> {
  try {
    return await boot({
      ...(cpus === undefined ? {} : { cpus }),
      timeoutMs,
      entry: entryFor(new URL('./call-entry.js', import.meta.url), fn),
    })
  } catch (error) {
    if (!isIpiError(error)) throw error
    const advice =
      error.code === 'IPI_ALREADY_BOOTED'
        ? '. The module boots a machine itself: give one that only exports functions'
        : ''
    throw new UsageError(`the CPUs could not be brought up: ${error.message}${advice}`, {
      cause: error,
    })
  }
}

/**
 * Asks each CPU by itself, all at once, so that one that fails takes no result of another with it.
 * CPU 0 comes last, and only if nobody was late: what never ends here could not be stopped.
 */
async function runEverywhere(
  machine: Machine,
  { sharedName }: UserFunction,
  info: unknown,
): Promise<Outcome[]> {
  const run = async (cpu: number): Promise<Outcome> => {
    try {
      return { cpu, ok: true, result: await machine.smpCallFunctionSingle(cpu, sharedName, info) }
    } catch (error) {
      if (isIpiError(error) && error.code === 'IPI_ASYNC_FUNCTION') {
        throw new UsageError(error.message, { cause: error })
      }
      return { cpu, ok: false, error }
    }
  }
  const here = machine.cpu.id
  const others = await Promise.all([...machine.onlineMask.without(here)].map(run))
  const late = others.filter(isLate).map(({ cpu }) => cpu)
  if (late.length === 0) return [await run(here), ...others]
  const error = new Error(`not run here, because CPU ${late.join(', ')} did not end in time`)
  return [{ cpu: here, ok: false, error }, ...others]
}

function isLate(outcome: Outcome): boolean {
  return !outcome.ok && isIpiError(outcome.error) && outcome.error.code === 'IPI_TIMEOUT'
}

function printText(outcomes: readonly Outcome[]): void {
  for (const outcome of outcomes) {
    const { cpu } = outcome
    if (outcome.ok) console.log(`CPU ${cpu}: ${inspect(outcome.result, { depth: 8 })}`)
    else console.error(`CPU ${cpu}: failed: ${inspect(outcome.error)}`)
  }
}

function printJson({ module, exportName }: UserFunction, outcomes: readonly Outcome[]): void {
  const ok = outcomes.every((outcome) => outcome.ok)
  const cpus = outcomes.map((outcome) =>
    outcome.ok ? outcome : { ...outcome, error: describe(outcome.error) },
  )
  console.log(JSON.stringify({ ok, module, function: exportName, cpus }, replaceForJson))
  for (const outcome of outcomes) {
    if (!outcome.ok) console.error(`CPU ${outcome.cpu}: failed: ${inspect(outcome.error)}`)
  }
}

function describe(error: unknown): object {
  if (!(error instanceof Error)) return { thrown: error }
  const { name, message, stack } = error
  return isIpiError(error) ? { name, code: error.code, message, stack } : { name, message, stack }
}

/** What structured clone knows and JSON does not. */
function replaceForJson(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Map || value instanceof Set) return [...(value as Iterable<unknown>)]
  return value
}
