/** What runs in the threads of a Piscina: finds the handler that a file exports, and calls it. */

import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { sharedFunction } from '../../kernel/attach.ts'
import { moved } from '../../kernel/sched/task-values.ts'
import { HANDLER_FUNCTIONS, type LoadRequest, type NamedTask } from './handler-protocol.ts'
import { moveOf } from './movable.ts'

type Handler = (task: unknown) => unknown
type Exports = Readonly<Record<string, unknown>>

/** Files and names are the program's own, so there are few; this only bounds a mistake. */
const HANDLERS_MAX = 1000

const require = createRequire(import.meta.url)
const handlers = new Map<string, Handler>()
let pool: LoadRequest | undefined
let poolHandler: Handler | undefined

/** Shares what the pool calls. */
export function shareHandlers(): void {
  sharedFunction(HANDLER_FUNCTIONS.load, async (request: LoadRequest) => {
    pool = request
    if (request.niceIncrement !== 0) await beNicer(request.niceIncrement)
    // A missing handler is the error of a task and not of the thread: another may have a name.
    if (request.filename !== null) poolHandler = await load(request.filename, request.name)
  })
  sharedFunction(HANDLER_FUNCTIONS.run, (task: unknown) => {
    if (poolHandler === undefined) throw missing(String(pool?.filename))
    return call(poolHandler, task)
  })
  sharedFunction(HANDLER_FUNCTIONS.runNamed, ({ task, filename, name }: NamedTask) => {
    const handler = handlers.get(`${filename}/${name}`)
    if (handler !== undefined) return call(handler, task)
    return load(filename, name).then((loaded) => {
      if (loaded === undefined) throw missing(filename)
      return call(loaded, task)
    })
  })
}

function missing(filename: string): Error {
  return new Error(`No handler function exported from ${filename}`)
}

async function beNicer(increment: number): Promise<void> {
  try {
    const name = '@napi-rs/nice'
    const { nice } = (await import(name)) as { nice: (increment: number) => void }
    nice(increment)
  } catch {
    // As piscina: the package is optional, and who lacks it has threads like any other.
  }
}

/** The exported function of that name, or the promise of one; undefined if there is none. */
async function load(filename: string, name: string): Promise<Handler | undefined> {
  // A module may export the promise of its function.
  const exported = await exportOf(await read(filename), name)
  if (typeof exported !== 'function') return undefined
  const handler = exported as Handler
  if (handlers.size >= HANDLERS_MAX) handlers.clear()
  handlers.set(`${filename}/${name}`, handler)
  return handler
}

/**
 * Imports a file. What is no module to Node, but something to whoever has hooked `require` (a compiler,
 * an addon), is required; if that fails as well, the import's error is the one to tell. Not the other
 * way round: a thread that is terminated while it requires an ES module ends the process
 * (an assertion of ModuleWrap::CreateRequiredModuleFacade).
 */
async function read(filename: string): Promise<Exports> {
  try {
    return (await import(pathToFileURL(filename).href)) as Exports
  } catch (error) {
    try {
      return { default: require(filename) as unknown }
    } catch {
      throw error
    }
  }
}

/** An export, or the promise of one. The default of CommonJS is all that it exports. */
function exportOf(namespace: Exports, name: string): unknown {
  const whole = namespace['default'] as Exports | null | undefined
  if (name === 'default') return whole?.['__esModule'] === true ? whole['default'] : whole
  return namespace[name] ?? whole?.[name]
}

/** Calls a handler. What it prints is handed over before its result: then it is seen in any case. */
function call(handler: Handler, task: unknown): unknown {
  const result = handler(task)
  if (isThenable(result) || hasOutput()) return settle(result)
  return unwrap(result)
}

async function settle(result: unknown): Promise<unknown> {
  const value = await result
  await flush(process.stdout)
  await flush(process.stderr)
  return unwrap(value)
}

function unwrap(value: unknown): unknown {
  const move = moveOf(value)
  return move === undefined ? value : moved(move.value, move.transfer)
}

function isThenable(value: unknown): boolean {
  return (
    value !== null &&
    typeof value === 'object' &&
    typeof (value as PromiseLike<unknown>).then === 'function'
  )
}

function hasOutput(): boolean {
  return process.stdout.writableLength > 0 || process.stderr.writableLength > 0
}

async function flush(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writableLength > 0) await new Promise((resolve) => stream.write('', resolve))
}
