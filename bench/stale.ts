/** Whether caches of several threads lie while others change what they hold, and how often they hit. */

import { setTimeout as sleep } from 'node:timers/promises'
import { boot, type Machine } from '../src/index.ts'
import type { Group, Pace } from './support/group.ts'
import { summarize, type Row, type Unit } from './support/measure.ts'
import { CPUS, KEYS, READERS, Versions } from './support/versions.ts'
import { zipf } from './support/zipf.ts'
import { CACHES, type CacheName } from './workers/caches.ts'
import * as readers from './workers/readers.ts'

/** Changes in a second. */
const RATES = [1, 1000, 10_000] as const
const WARM_UP_MS = 250
/** Changes that are not acknowledged yet: a writer does not wait for one before the next. */
const UNDER_WAY_MAX = 64
/** What is under way when it should have ended is given up after this time. */
const SETTLE_MS_MAX = 20_000

const NAMES = Object.keys(CACHES) as CacheName[]

export const staleReads: Group = {
  about:
    `Two CPUs read ${KEYS} keys (Zipf 0.99), a third one changes them. A read is stale if it begins after ` +
    'a change was acknowledged and gives what was there before.',
  measure: (pace) =>
    withReaders(async (machine, versions) => {
      const rows: Row[] = []
      for (const rate of RATES) {
        for (const name of NAMES) {
          rows.push(...(await readUnderChanges(machine, versions[name], name, rate, pace)))
        }
      }
      return rows
    }),
}

export const comebacks: Group = {
  about:
    'Each key is changed and flushed while CPUs read it from the authority, all at random moments. Then all ' +
    'is quiet, and every CPU reads every key: what is older than the last change has come back.',
  measure: (pace) =>
    withReaders(async (machine, versions) => {
      const rounds = pace === 'quick' ? 3 : 20
      const rows: Row[] = []
      for (const name of NAMES) {
        for (let round = 0; round < rounds; round++) await hammer(machine, versions[name], name)
        const back = versions[name].sum('stale')
        rows.push(once(`flushes, ${name}`, 'count', rounds * KEYS))
        rows.push(once(`came back after flushes, ${name}`, 'count', back))
      }
      return rows
    }),
}

/** Boots a machine whose CPUs have every cache open, each before an authority of its own. */
async function withReaders(
  measure: (machine: Machine, versions: Record<CacheName, Versions>) => Promise<Row[]>,
): Promise<Row[]> {
  const entry = new URL('./workers/readers.js', import.meta.url)
  const machine = await boot({ cpus: CPUS, entry })
  try {
    const versions = byName(() => new Versions())
    await machine.onEachCpu(
      readers.open,
      byName((name) => versions[name].buffer),
    )
    const rows = await measure(machine, versions)
    await machine.onEachCpu(readers.close)
    return rows
  } finally {
    await machine.close()
  }
}

function byName<Value>(of: (name: CacheName) => Value): Record<CacheName, Value> {
  return Object.fromEntries(NAMES.map((name) => [name, of(name)])) as Record<CacheName, Value>
}

async function readUnderChanges(
  machine: Machine,
  versions: Versions,
  name: CacheName,
  rate: number,
  pace: Pace,
): Promise<Row[]> {
  await machine.smpCallFunctionMany(READERS, readers.startReading, name)
  await changeKeys(versions, name, rate, WARM_UP_MS)
  const count = () => ({
    reads: versions.sum('reads'),
    walks: versions.sum('walks'),
    stale: versions.sum('stale'),
  })
  const before = count()
  const start = performance.now()
  const changes = await changeKeys(versions, name, rate, pace === 'quick' ? 400 : 2500)
  const seconds = (performance.now() - start) / 1000
  const after = count()
  await machine.smpCallFunctionMany(READERS, readers.stopReading)
  await settle(versions)
  const reads = after.reads - before.reads
  const hits = 100 * (1 - (after.walks - before.walks) / reads)
  const at = `at ${rate.toLocaleString('en')} flushes/s, ${name}`
  return [
    once(`stale reads ${at}`, 'count', after.stale - before.stale),
    once(`of so many reads ${at}`, 'count', reads),
    once(`hit rate ${at}`, '%', hits),
    once(`flushes acknowledged ${at}`, 'calls/s', changes / seconds),
  ]
}

/** Changes popular keys at a rate; gives how many changes were acknowledged. */
async function changeKeys(
  versions: Versions,
  name: CacheName,
  rate: number,
  ms: number,
): Promise<number> {
  const draw = zipf(KEYS)
  const start = performance.now()
  let begun = 0
  let done = 0
  for (let now = start; now < start + ms; now = performance.now()) {
    const due = 1 + ((now - start) * rate) / 1000
    for (; begun < due && begun - done < UNDER_WAY_MAX; begun++) {
      void change(versions, name, draw()).then(() => done++)
    }
    await sleep(1)
  }
  const inTime = done
  while (done < begun) await sleep(1)
  return inTime
}

async function change(versions: Versions, name: CacheName, key: number): Promise<void> {
  const version = versions.commit(key)
  await readers.cacheOf(name).changed(key)
  versions.acknowledge(key, version)
}

/** One round: everybody reads, everything changes once; and then the judgement. */
async function hammer(machine: Machine, versions: Versions, name: CacheName): Promise<void> {
  const keys = Array.from({ length: KEYS }, (_, key) => key)
  await Promise.all(keys.map((key) => change(versions, name, key)))
  await machine.smpCallFunctionMany(READERS, readers.readScattered, name)
  const changeSometime = async (key: number): Promise<void> => {
    await sleep(Math.random() * 8)
    await change(versions, name, key)
  }
  await Promise.all(keys.map(changeSometime))
  await settle(versions)
  await machine.smpCallFunctionMany(READERS, readers.readAll, name)
  await settle(versions)
}

/** Waits until nothing is under way on any reader. */
async function settle(versions: Versions): Promise<void> {
  const until = performance.now() + SETTLE_MS_MAX
  while (versions.sum('pending') > 0) {
    if (performance.now() > until) throw new Error('reads are under way that do not end')
    await sleep(2)
  }
  const failed = versions.sum('failed')
  if (failed > 0) throw new Error(`${failed} reads failed, see above`)
}

/** A row of what was counted or measured once. */
function once(name: string, unit: Unit, value: number): Row {
  return summarize(name, unit, [[value]])
}
