/** Reading and writing a shared store, against a Map of one thread and against the package sharedmap. */

import { createRequire } from 'node:module'
import { openStore, type Machine } from '../src/index.ts'
import { mulberry32 } from '../src/testing/strategies/random.ts'
import { plan, type Group } from './support/group.ts'
import { withMachine } from './support/machine.ts'
import { against, compare, type Contender, type Row } from './support/measure.ts'

const KEYS = 10_000
/** Operations per sample. */
const TURNS = 500

/** What is used of sharedmap 1.2.0, whose own declarations do not compile. */
interface SharedMapLike {
  set(key: string, value: string): void
  get(key: string): string | undefined
}
const SharedMap = createRequire(import.meta.url)('sharedmap') as new (
  maxSize: number,
  keySize: number,
  objSize: number,
) => SharedMapLike

export const group: Group = {
  about: `One operation on one of ${KEYS} keys, strings of some 20 characters, by one thread; the loop is in it.`,
  measure: (pace) =>
    withMachine({ cpus: 1 }, async ({ machine }) => {
      const ways = await contenders(machine)
      const rows: Row[] = []
      for (const [map, shared, ours] of ways) {
        const taken = await compare([map!, shared!, ours!], plan(pace, 60, 20, 2000))
        rows.push(taken[0]!, against(taken[1]!, taken[0]!), against(taken[2]!, taken[1]!))
      }
      return rows
    }),
}

/** Reading, then writing: in a Map, in a SharedMap, in a store. */
async function contenders(machine: Machine): Promise<Contender[][]> {
  const keys = Array.from({ length: KEYS }, (_, i) => `user:${i * 7919}`)
  const values = keys.map((key) => `a value of ${key}`)
  const map = new Map<string, string>()
  const shared = new SharedMap(2 * KEYS, 24, 32)
  const store = await openStore<string>(machine, { name: 'bench', bytes: 1 << 23 })
  keys.forEach((key, i) => {
    map.set(key, values[i]!)
    shared.set(key, values[i]!)
    store.set(key, values[i]!)
  })
  const reads = (name: string, get: (key: string) => string | undefined): Contender =>
    repeat(name, keys, (key) => get(key)?.length ?? 0)
  const writes = (name: string, set: (key: string, value: string) => unknown): Contender =>
    repeat(name, keys, (key, i) => {
      set(key, values[i]!)
      return 1
    })
  return [
    [
      reads('Map.get', (key) => map.get(key)),
      reads('sharedmap get', (key) => shared.get(key)),
      reads('store.get', (key) => store.get(key)),
    ],
    [
      writes('Map.set', (key, value) => map.set(key, value)),
      writes('sharedmap set', (key, value) => shared.set(key, value)),
      writes('store.set', (key, value) => store.set(key, value)),
    ],
  ]
}

/** What the loops computed: kept, so that no compiler finds them useless. */
let kept = 0

function repeat(
  name: string,
  keys: readonly string[],
  once: (key: string, i: number) => number,
): Contender {
  const draw = mulberry32(1)
  const order = Int32Array.from({ length: TURNS }, () => Math.floor(draw() * keys.length))
  return {
    name,
    take: (count) => {
      const times: number[] = []
      for (let sample = 0; sample < count; sample++) {
        const start = performance.now()
        for (let i = 0; i < TURNS; i++) kept += once(keys[order[i]!]!, order[i]!)
        times.push(((performance.now() - start) * 1e6) / TURNS)
      }
      if (Number.isNaN(kept)) throw new Error('a loop computed nothing')
      return times
    },
  }
}
