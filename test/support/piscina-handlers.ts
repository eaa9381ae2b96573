// Handlers that the pools of test/piscina run, piscina's own and ours.

import { AsyncLocalStorage } from 'node:async_hooks'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort, threadId } from 'node:worker_threads'

// oxlint-disable-next-line import/no-default-export
export default (value: number): number => value + 1

export const later = async (value: number): Promise<number> => {
  await sleep(1)
  return value + 1
}

export const echo = (value: unknown): unknown => value

export class OddError extends TypeError {}

export function fail(how: string): unknown {
  if (how === 'class') throw new RangeError('out of range')
  if (how === 'text') throw 'only words' // oxlint-disable-line typescript/only-throw-error
  if (how === 'cause') throw new Error('outer', { cause: new TypeError('inner') })
  return Promise.reject(new Error('later'))
}

/** Says that it runs, then blocks until it is let go. */
export function hold(words: Int32Array): number {
  Atomics.add(words, 0, 1)
  Atomics.notify(words, 0)
  Atomics.wait(words, 1, 0)
  return threadId
}

/** Says that it runs, then waits with its event loop going until it is let go. */
export async function holdAsync(words: Int32Array): Promise<number> {
  Atomics.add(words, 0, 1)
  Atomics.notify(words, 0)
  while (Atomics.load(words, 1) === 0) await sleep(1)
  return threadId
}

/** Says that it runs, and does so for ever. */
export function spin(words: Int32Array): never {
  Atomics.add(words, 0, 1)
  Atomics.notify(words, 0)
  for (;;);
}

export const order: unknown[] = []
export const note = (what: unknown): void => void order.push(what)
export const noted = (): unknown[] => order

export const environment = (): object => ({
  env: { ...process.env },
  argv: process.argv.slice(2),
  execArgv: process.execArgv,
})

export const exit = (code: number): never => process.exit(code)

/** Ends well, and then throws where nobody catches it. */
export function failBehind(message: string): string {
  setImmediate(() => {
    throw new Error(message)
  })
  return 'fine'
}

export function post(message: unknown): void {
  parentPort!.postMessage(message)
}

export function fill(): never {
  const all: unknown[] = []
  for (;;) all.push([all])
}

interface Library {
  readonly isWorkerThread: boolean
  readonly workerData: unknown
  readonly Piscina: { readonly isWorkerThread: boolean; readonly workerData: unknown }
  readonly move: (value: unknown) => unknown
  readonly transferableSymbol: symbol
  readonly valueSymbol: symbol
}

export async function role(library: string): Promise<unknown[]> {
  const named = (await import(library)) as Library
  const { Piscina } = named
  return [named.isWorkerThread, named.workerData, Piscina.isWorkerThread, Piscina.workerData]
}

let sent: ArrayBuffer | undefined

/** Gives a buffer away. */
export async function give(library: string): Promise<unknown> {
  const { move } = (await import(library)) as Library
  sent = new ArrayBuffer(16)
  return move(new Uint8Array(sent))
}

/** Gives an object away that says itself what of it is moved. */
export async function giveObject(library: string): Promise<unknown> {
  const { move, transferableSymbol, valueSymbol } = (await import(library)) as Library
  const buffer = (sent = new ArrayBuffer(16))
  return move({ [transferableSymbol]: [buffer], [valueSymbol]: { name: 'parcel', buffer } })
}

/** How much of what was given away is still here. */
export const kept = (): number | undefined => sent?.byteLength

const storage = new AsyncLocalStorage<number>()
export const inContext = (value: number): Promise<number | undefined> =>
  storage.run(value, async () => {
    await sleep(1)
    return storage.getStore()
  })

export const notCloneable = (): unknown => () => undefined

/** How nice this thread is, as Linux has it: proc(5), the 19th field, behind the name in brackets. */
export const niceness = (): number =>
  Number(readFileSync('/proc/thread-self/stat', 'utf8').split(') ')[1]!.split(' ')[16])

let turned = false

/** Starts something that ends after the task, and tells later whether it did. */
export const turn = (): void => void setImmediate(() => (turned = true))
export const hasTurned = (): boolean => turned
