// A service of several threads in front of SQLite, under load from another process: without a cache, with
// a Map in each thread and a BroadcastChannel between them, and with a coherent cache. It ends with status 1
// if a read without a cache, or through the coherent one, was stale, and with 2 where there is no SQLite.
//
//   node main.mjs [milliseconds of each measurement]

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { boot, sharedFunction } from 'interprocessor'
import { ACCOUNTS, createTables, findSqlite } from './database.mjs'

/** The CPUs that serve, and those that run queries for them. */
const SERVERS = [1, 2, 3]
const READERS = [4]
const WAYS = {
  none: 'no cache',
  broadcast: 'a Map each, a BroadcastChannel',
  coherent: 'createCache',
}
const START_MS_MAX = 10_000
const ms = Number(process.argv[2] ?? 1500)

const ports = []
sharedFunction('serving', (port) => {
  ports.push(port)
})

if ((await findSqlite()) === undefined) {
  console.log('There is no SQLite: npm install @photostructure/sqlite@1, or take Node 22.13')
  process.exit(2)
}
const folder = mkdtempSync(join(tmpdir(), 'http-service-'))
process.env.DATABASE = join(folder, 'shop.db')
try {
  await createTables(process.env.DATABASE)
  const entry = new URL('./thread.mjs', import.meta.url)
  const machine = await boot({ cpus: 1 + SERVERS.length + READERS.length, entry })
  try {
    await compareWays(machine)
    await machine.smpCallFunction('stop')
  } finally {
    await machine.close()
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}

async function compareWays(machine) {
  await machine.smpCallFunctionMany(SERVERS, 'serve', READERS)
  const until = performance.now() + START_MS_MAX
  while (ports.length < SERVERS.length) {
    if (performance.now() > until) throw new Error(`only ${ports.length} threads serve`)
    await sleep(5)
  }
  console.log(`${SERVERS.length} threads serve ${ACCOUNTS} accounts out of SQLite by HTTP`)
  printRow('', 'reads/s', 'cached', 'changes', 'ms each', 'stale reads')
  const stale = {}
  for (const way of Object.keys(WAYS)) {
    const seen = await measure(machine, way)
    print(way, seen)
    stale[way] = seen.stale
  }
  if (stale.none + stale.coherent > 0) process.exitCode = 1
  else console.log('No read was stale without a cache, and none with createCache.')
}

/** Lets another process read and write in one way through all serving threads; gives what it saw. */
async function measure(machine, way) {
  const before = await countQueries(machine)
  const load = { ports, way, accounts: ACCOUNTS, warmUpMs: ms / 3, ms }
  const child = fork(new URL('./load.mjs', import.meta.url), [JSON.stringify(load)])
  const failed = once(child, 'exit').then(([status]) => {
    throw new Error(`the load ended with status ${status} before it was done`)
  })
  const [seen] = await Promise.race([once(child, 'message'), failed])
  failed.catch(() => undefined)
  return { ...seen, queries: (await countQueries(machine)) - before }
}

async function countQueries(machine) {
  const queries = await machine.smpCallFunctionMany(READERS, 'queries')
  return [...queries.values()].reduce((sum, each) => sum + each, 0)
}

function print(way, { asked, reads, seconds, queries, writes, writeMs, stale, latestMs }) {
  const perSecond = Math.round(reads / seconds).toLocaleString('en-US')
  const cached = `${Math.round(100 * (1 - queries / asked))} %`
  const late = stale === 0 ? '' : `, the latest ${Math.ceil(latestMs)} ms after the change`
  printRow(WAYS[way], perSecond, cached, String(writes), writeMs.toFixed(1), stale + late)
}

function printRow(way, reads, cached, changes, msEach, stale) {
  const numbers = [reads, cached, changes, msEach].map((cell) => cell.padStart(9))
  console.log(`${way.padEnd(30)}${numbers.join('')}   ${stale}`)
}
