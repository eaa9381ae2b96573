/** What the CPUs of the groups about stale reads import: readers, with the oracle at their side. */

import { setTimeout as sleep } from 'node:timers/promises'
import { sharedFunction, thisMachine } from '../../src/index.ts'
import { KEYS, Versions } from '../support/versions.ts'
import { zipf } from '../support/zipf.ts'
import { CACHES, type CacheName, type ThreadCache } from './caches.ts'

/** Requests under way at once on one CPU, and what each reads in one turn of the event loop. */
const REQUESTS = 16
const READS_PER_REQUEST = 8

/** What a thread has for each way: its cache, and the authority behind it. */
interface Opened {
  readonly cache: ThreadCache
  readonly versions: Versions
}

let cpu: number
const opened = new Map<CacheName, Opened>()
/** How long each way to the authority and back takes, in milliseconds. */
let walkMs: () => number = () => 1
let reading = false

/** Opens all caches on this thread, each in front of an authority of its own. */
export const open = sharedFunction('readers.open', (oracles: Oracles) => {
  const machine = thisMachine()
  cpu = machine.cpu.id
  for (const [name, buffer] of Object.entries(oracles) as [CacheName, SharedArrayBuffer][]) {
    const versions = new Versions(buffer)
    const cache = CACHES[name]((key) => walk(versions, key), machine)
    opened.set(name, { cache, versions })
  }
})

/** Ends what would keep this thread alive. */
export const close = sharedFunction('readers.close', () => {
  for (const { cache } of opened.values()) cache.close()
})

/** The memory of each authority. */
export type Oracles = Readonly<Record<CacheName, SharedArrayBuffer>>

/** The authority is as far as a database on the next machine: there, look, and back. */
async function walk(versions: Versions, key: number): Promise<number> {
  versions.count(cpu, 'walks')
  await sleep(walkMs())
  const version = versions.committed(key)
  await sleep(walkMs())
  return version
}

/** The cache of a name, on this thread. */
export function cacheOf(name: CacheName): ThreadCache {
  return opened.get(name)!.cache
}

/** Begins to read popular keys. */
export const startReading = sharedFunction('readers.start', (name: CacheName) => {
  reading = true
  const draw = zipf(KEYS)
  const way = opened.get(name)!
  for (let request = 0; request < REQUESTS; request++) {
    track(way, async () => {
      while (reading) {
        for (let i = 0; i < READS_PER_REQUEST; i++) await readAndJudge(way, draw())
        await new Promise(setImmediate)
      }
    })
  }
})

/** Ends that; what is under way goes on to its end. */
export const stopReading = sharedFunction('readers.stop', () => {
  reading = false
})

/** Reads every key once, at random moments of some milliseconds, with walks that take as long. */
export const readScattered = sharedFunction('readers.scattered', (name: CacheName) => {
  walkMs = () => 1 + Math.random() * 3
  const way = opened.get(name)!
  for (let key = 0; key < KEYS; key++) {
    track(way, async () => {
      await sleep(Math.random() * 4)
      await way.cache.read(key)
    })
  }
})

/** Reads every key once, now. */
export const readAll = sharedFunction('readers.all', (name: CacheName) => {
  const way = opened.get(name)!
  for (let key = 0; key < KEYS; key++) track(way, () => readAndJudge(way, key))
})

async function readAndJudge({ cache, versions }: Opened, key: number): Promise<void> {
  const floor = versions.floor(key)
  const version = await cache.read(key)
  versions.count(cpu, 'reads')
  if (version < floor) versions.count(cpu, 'stale')
}

/** Counts what is under way, and what fails. */
function track({ versions }: Opened, act: () => Promise<unknown>): void {
  versions.count(cpu, 'pending')
  act()
    .catch((error: unknown) => {
      console.error(error)
      versions.count(cpu, 'failed')
    })
    .finally(() => versions.count(cpu, 'pending', -1))
}
