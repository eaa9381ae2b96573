// Runs a test against piscina itself and against ours: what both promise must be true of both.

import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as ours from 'interprocessor/piscina'
import * as theirs from 'piscina'

/** What both export. */
export type Library = typeof ours
export type Pool = ours.Piscina
type Options = ConstructorParameters<Library['Piscina']>[0]

/** The file of handlers that pools have unless another is named. */
export const HANDLERS = fileURLToPath(new URL('./piscina-handlers.js', import.meta.url))

/** Libraries by the name that a program imports them by. */
export const LIBRARIES: Readonly<Record<string, Library>> = {
  piscina: theirs as unknown as Library,
  'interprocessor/piscina': ours,
}

/** What a test of one library is given. */
export interface Both {
  readonly library: Library
  /** The library's name in an import. */
  readonly name: string
  readonly t: TestContext
  /** Makes a pool that is destroyed when the test ends. */
  readonly pool: (options?: Options) => Pool
}

/** How long a test may take. */
const TEST_MS = 20_000

/** Defines a test for each of the two. */
export function both(what: string, body: (both: Both) => unknown): void {
  for (const [name, library] of Object.entries(LIBRARIES)) {
    test(`${name}: ${what}`, { timeout: TEST_MS }, (t) => run(name, library, t, body))
  }
}

/** Defines a test of ours alone: of what piscina does not do. */
export function only(what: string, body: (both: Both) => unknown): void {
  const name = 'interprocessor/piscina'
  test(`${name} alone: ${what}`, { timeout: TEST_MS }, (t) => run(name, ours, t, body))
}

async function run(
  name: string,
  library: Library,
  t: TestContext,
  body: (both: Both) => unknown,
): Promise<void> {
  const pools: Pool[] = []
  // Pools keep no process alive that has nothing else to do, and some tests only wait for an event.
  const alive = setInterval(() => undefined, 1000)
  // Also after a test that has run out of time: what it has left behind would keep the file from ending.
  t.after(async () => {
    clearInterval(alive)
    for (const made of pools) {
      made.on('error', () => undefined)
      await made.destroy()
    }
  })
  const pool = (options: Options = {}): Pool => {
    // piscina requires whatever it can. A thread that ends while it requires an ES module ends the process.
    const never = { execArgv: ['--no-experimental-require-module'] }
    const careful = library === ours ? {} : never
    const made = new library.Piscina({ filename: HANDLERS, ...careful, ...options })
    pools.push(made)
    return made
  }
  await body({ library, name, t, pool })
}

/** Two words: how many tasks have said that they run, and whether they are let go. */
export function words(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(8))
}

/** Resolves when so many tasks have said that they run. */
export async function running(held: Int32Array<SharedArrayBuffer>, count = 1): Promise<void> {
  for (;;) {
    const seen = Atomics.load(held, 0)
    if (seen >= count) return
    const { async, value } = Atomics.waitAsync(held, 0, seen, 1000)
    if (async) await value
  }
}

/** Lets the tasks go that hold these words. */
export function letGo(held: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(held, 1, 1)
  Atomics.notify(held, 1)
}

/** Resolves when a condition holds that an event brings about. */
export async function until(emitter: Pool, event: string, condition: () => boolean): Promise<void> {
  while (!condition()) await once(emitter, event)
}
