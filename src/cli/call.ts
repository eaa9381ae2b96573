/** `interprocessor call`: runs a function of the user's own module on every CPU. */

import { inspect } from 'node:util'
import { boot, CpuMask, isIpiError, type IpiError, type Machine } from '../index.ts'
import { UsageError } from './failure.ts'
import type { Output } from './print.ts'
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

/** The function was kept from running where nothing could have stopped it. */
class NotRun extends Error {
  override readonly name = 'NotRun'
}

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
  const outcomes = await runEverywhere(machine, fn, info, options.timeoutMs)
  if (options.json === true) printJson(fn, outcomes)
  else printText(outcomes)
  // A CPU that is still in the function would be waited for; the end of the process ends it too.
  if (!outcomes.some((outcome) => !outcome.ok && isLate(outcome.error))) await machine.close()
  return outcomes.every(({ ok }) => ok) ? 0 : 1
}

function parseJson(json: string | undefined): unknown {
  if (json === undefined) return undefined
  try {
    return JSON.parse(json) as unknown
  } catch (error) {
    throw new UsageError(
      `the argument is not JSON: ${(error as Error).message}. Quote it for the shell, and ` +
        `strings for JSON: '"text"', '{ "level": 3 }'`,
    )
  }
}

async function bootWith(fn: UserFunction, { cpus }: CallOptions): Promise<Machine> {
  try {
    return await boot({
      ...(cpus === undefined ? {} : { cpus }),
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
  timeoutMs: number,
): Promise<Outcome[]> {
  const run = async (cpu: number): Promise<Outcome> => {
    try {
      const result = await machine.smpCallFunctionSingle(cpu, sharedName, info, { timeoutMs })
      return { cpu, ok: true, result }
    } catch (error) {
      if (isIpiError(error) && error.code === 'IPI_ASYNC_FUNCTION') {
        throw new UsageError(error.message, { cause: error })
      }
      return { cpu, ok: false, error }
    }
  }
  const here = machine.cpu.id
  const others = await Promise.all([...machine.onlineMask.without(here)].map(run))
  const late = others.filter((outcome) => !outcome.ok && isLate(outcome.error))
  if (late.length === 0) return [await run(here), ...others]
  const list = CpuMask.from(late.map(({ cpu }) => cpu)).toString()
  const error = new NotRun(`not run here, because CPU ${list} did not answer in time`)
  return [{ cpu: here, ok: false, error }, ...others]
}

function isLate(error: unknown): error is IpiError {
  return isIpiError(error) && error.code === 'IPI_TIMEOUT'
}

function printText(outcomes: readonly Outcome[]): void {
  const { stdout }: { readonly stdout: Output } = process
  const colors = stdout.hasColors?.() ?? false
  for (const outcome of outcomes) {
    if (!outcome.ok) printFailure(outcome.cpu, outcome.error)
    else console.log(`CPU ${outcome.cpu}: ${inspect(outcome.result, { depth: 8, colors })}`)
  }
}

function printJson({ module, exportName }: UserFunction, outcomes: readonly Outcome[]): void {
  const ok = outcomes.every((outcome) => outcome.ok)
  const cpus = outcomes.map((outcome) =>
    outcome.ok
      ? { ...outcome, result: forJson(outcome.result) }
      : { ...outcome, error: forJson(describe(outcome.error)) },
  )
  console.log(JSON.stringify({ ok, module, function: exportName, cpus }))
  for (const outcome of outcomes) {
    if (!outcome.ok) printFailure(outcome.cpu, outcome.error)
  }
}

function printFailure(cpu: number, error: unknown): void {
  // Our own stack would only show this file; the remote one shows the user's line.
  const text = isLate(error) || error instanceof NotRun ? error.message : inspect(error)
  console.error(`CPU ${cpu}: failed: ${text}`)
}

function describe(error: unknown): unknown {
  if (!(error instanceof Error)) return { thrown: error }
  const { name, message, stack, code } = error as NodeJS.ErrnoException
  return { name, code, message, stack }
}

/** What JSON can say of a value: maps and sets as arrays, and what it cannot say at all as text. */
function forJson(value: unknown): unknown {
  const replace = (_key: string, part: unknown): unknown => {
    if (typeof part === 'bigint') return String(part)
    return part instanceof Map || part instanceof Set ? [...(part as Iterable<unknown>)] : part
  }
  try {
    const text = JSON.stringify(value, replace) as string | undefined
    return text === undefined ? undefined : (JSON.parse(text) as unknown)
  } catch {
    return inspect(value)
  }
}
