/** The user's own module: finding a function in it, and sharing that function in every thread. */

import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isIpiError, sharedFunction } from '../index.ts'
import { UsageError } from './failure.ts'

/** A function of a user's module that this thread has shared. */
export interface UserFunction {
  /** The module's URL. */
  readonly module: string
  /** What the module calls it. */
  readonly exportName: string
  /** What the machine calls it: the export's name, or the one under which it was shared before. */
  readonly sharedName: string
}

/**
 * Imports a module by its path and shares one function of it in this thread; without a name, the
 * only function that it exports. Throws {@link UsageError} for everything that can be wrong.
 */
export async function loadUserFunction(path: string, name?: string): Promise<UserFunction> {
  const module = findModule(path)
  const exported = await importModule(module, path)
  const exportName = chooseExport(exported, name, path)
  try {
    return { module, exportName, sharedName: share(exported[exportName], exportName) }
  } catch (error) {
    if (isIpiError(error)) throw new UsageError(error.message, { cause: error })
    throw error
  }
}

/** The URL of an entry module that shares the same function in another thread. */
export function entryFor(entry: URL, { module, exportName }: UserFunction): URL {
  const url = new URL(entry)
  url.searchParams.set('module', module)
  url.searchParams.set('export', exportName)
  return url
}

/** The other thread's part of {@link entryFor}: `url` is the entry module's own. */
export async function shareFromUrl(url: string): Promise<void> {
  const { searchParams } = new URL(url)
  const module = searchParams.get('module')
  const exportName = searchParams.get('export')
  if (module === null || exportName === null) return
  const exported = (await import(module)) as Record<string, unknown>
  share(exported[exportName], exportName)
}

/** Shares a function under its export's name, unless its author has shared it; gives the name. */
function share(fn: unknown, exportName: string): string {
  const { sharedName } = fn as { readonly sharedName?: unknown }
  if (typeof sharedName === 'string') return sharedName
  return sharedFunction(exportName, fn as (info: unknown) => unknown).sharedName
}

function findModule(path: string): string {
  const file = path.startsWith('file:') ? fileURLToPath(path) : resolve(path)
  const stat = statSync(file, { throwIfNoEntry: false })
  if (stat === undefined) {
    throw new UsageError(`there is no module ${file}; give the path of a JavaScript file`)
  }
  if (!stat.isFile()) {
    throw new UsageError(`${file} is not a file; give the path of a JavaScript file`)
  }
  return pathToFileURL(file).href
}

async function importModule(module: string, path: string): Promise<Record<string, unknown>> {
  try {
    return (await import(module)) as Record<string, unknown>
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error)
    throw new UsageError(`${path} cannot be loaded; it says:\n${why}`, { cause: error })
  }
}

function chooseExport(
  exported: Record<string, unknown>,
  name: string | undefined,
  path: string,
): string {
  const functions = Object.keys(exported).filter((key) => typeof exported[key] === 'function')
  const what = functions.length === 1 ? 'the function' : 'these functions:'
  const list =
    functions.length === 0 ? 'it exports no function' : `it exports ${what} ${functions.join(', ')}`
  if (name === undefined) {
    const [only] = functions
    if (only !== undefined && functions.length === 1) return chooseExport(exported, only, path)
    throw new UsageError(`say which function of ${path} to run, with --function; ${list}`)
  }
  if (!Object.hasOwn(exported, name)) {
    throw new UsageError(`${path} does not export "${name}"; ${list}`)
  }
  const value = exported[name]
  if (typeof value !== 'function') {
    throw new UsageError(`"${name}" of ${path} is not a function but ${typeof value}; ${list}`)
  }
  checkCallable(value, name, path)
  return name
}

/** What an interrupt runs is synchronous and an ordinary call. */
function checkCallable(fn: object, name: string, path: string): void {
  if (fn.constructor.name.startsWith('Async')) {
    throw new UsageError(
      `"${name}" of ${path} is asynchronous, and an interrupt runs only what is synchronous; ` +
        'export a function without async that starts the work and returns',
    )
  }
  if (/^class\b/.test(Function.prototype.toString.call(fn))) {
    throw new UsageError(
      `"${name}" of ${path} is a class, which cannot be called; export a function that makes one`,
    )
  }
}
