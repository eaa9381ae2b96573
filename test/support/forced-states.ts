/**
 * States in which a thread does not look up, for the tests of forced entry: ways to be in the engine, and
 * in code that the engine runs for somebody else. Each begins by saying so, and lasts until an NMI has
 * come. The table of them stands in forced-tasks.ts.
 */

import { Script } from 'node:vm'
import { DEADLINE_MS, WORD } from './machine-board.ts'
import { board } from './machine-tasks.ts'

export const isOver = (): boolean => board().get(WORD.release) !== 0

/** Throws once a state has lasted so long that no NMI will end it. */
export function deadline(): () => void {
  const end = performance.now() + DEADLINE_MS
  return () => {
    if (performance.now() > end) throw new Error('no NMI came')
  }
}

/**
 * (import "m" "m" (memory 1 1 shared))
 * (func (export "spin") (loop (br_if 0 (i32.eqz (i32.atomic.load (i32.const 0))))))
 * (func (export "wait") (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))
 */
const WASM = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 2, 9, 1, 1, 0x6d, 1, 0x6d, 2, 3, 1, 1, 3, 3,
  2, 0, 0, 7, 0xf, 2, 4, 0x73, 0x70, 0x69, 0x6e, 0, 0, 4, 0x77, 0x61, 0x69, 0x74, 0, 1, 0xa, 0x1e,
  2, 0xe, 0, 3, 0x40, 0x41, 0, 0xfe, 0x10, 2, 0, 0x45, 0xd, 0, 0xb, 0xb, 0xd, 0, 0x41, 0, 0x41, 0,
  0x42, 0x7f, 0xfe, 1, 2, 0, 0x1a, 0xb,
])

/** As much of it as is used here: neither Node's types nor the language's have it. */
declare const WebAssembly: {
  Memory: new (limits: object) => { readonly buffer: SharedArrayBuffer }
  Module: new (code: Uint8Array) => object
  Instance: new (module: object, imports: object) => { readonly exports: object }
}

/** The word that a function in WebAssembly looks at, and nothing else. */
let wasmWord: Int32Array | undefined

/** An NMI has come: releases who is in WebAssembly. Called in its handler. */
export function releaseWasm(): void {
  if (wasmWord === undefined) return
  Atomics.store(wasmWord, 0, 1)
  Atomics.notify(wasmWord, 0)
}

function inWasm(name: 'spin' | 'wait'): void {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(WASM), { m: { m: memory } })
  wasmWord = new Int32Array(memory.buffer)
  board().add(WORD.entered)
  ;(Reflect.get(exports, name) as () => void)()
  wasmWord = undefined
}

const LOOP = 'entered(); while (!isOver()) check()'
/** So many letters that one match takes its time, and ends. */
const LETTERS = 24
const BIG = Array.from({ length: 200_000 }, (_, i) => ({ i }))

function again(run: () => unknown): void {
  const check = deadline()
  board().add(WORD.entered)
  for (; !isOver(); check()) run()
}

/** By name. */
export const ENGINE_STATES = {
  'in a loop of WebAssembly': () => inWasm('spin'),
  'in memory.atomic.wait32': () => inWasm('wait'),
  'in one match of a regular expression': () =>
    again(() => /^(?:a+)+$/.test(`${'a'.repeat(LETTERS)}b`)),
  'in a getter': () => {
    const holder = {
      get slow() {
        again(() => undefined)
        return 1
      },
    }
    return holder.slow
  },
  'in a comparator': () => {
    let hasEntered = false
    const check = deadline()
    const compare = (a: number, b: number): number => {
      if (!hasEntered) board().add(WORD.entered)
      hasEntered = true
      while (!isOver()) check()
      return a - b
    }
    return [3, 1, 2].toSorted(compare)
  },
  'in JSON.stringify': () => again(() => JSON.stringify(BIG)),
  'in vm.runInThisContext': () => {
    const run = new Script(`(entered, isOver, check) => { ${LOOP} }`).runInThisContext() as (
      ...parts: (() => unknown)[]
    ) => void
    run(() => board().add(WORD.entered), isOver, deadline())
  },
  'in vm.runInNewContext': () => {
    const entered = (): void => board().add(WORD.entered)
    new Script(LOOP).runInNewContext({ entered, isOver, check: deadline() })
  },
  'at the top level of a module': async () => {
    // A new one each time.
    await import(`./forced-top-level.js?${performance.now()}`)
  },
} satisfies Record<string, () => unknown>
