// The load, in a process of its own: readers and writers that spread over the ports of all threads.
//
// Here is the judge, too. A write counts from the moment in which its answer is here, and a read that is
// sent later and brings an older version is stale: both are moments of this one thread.

import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const READERS = 24
const WRITERS = 4
/** What a writer waits between two writes, in milliseconds. */
const PAUSE_MS = 4
const ANSWER_MS_MAX = 10_000

const { ports, way, accounts, warmUpMs, ms } = JSON.parse(process.argv[2])
const agent = new Agent({ keepAlive: true, timeout: ANSWER_MS_MAX })
const from = performance.now() + warmUpMs
const end = from + ms

/** Of each account: the newest version that has been acknowledged, and when. */
const newest = Array.from({ length: accounts }, () => ({ version: 0, at: 0 }))
const seen = { asked: 0, reads: 0, writes: 0, stale: 0, latestMs: 0 }
/** How long the writes took until they were acknowledged. */
const writeMs = []

await Promise.all([
  ...Array.from({ length: READERS }, readOn),
  ...Array.from({ length: WRITERS }, writeOn),
])
const seconds = (performance.now() - from) / 1000
process.send({ ...seen, seconds, writeMs: writeMs.sort((a, b) => a - b)[writeMs.length >> 1] })
process.disconnect()
agent.destroy()

async function readOn() {
  for (let sent = performance.now(); sent < end; sent = performance.now()) {
    const id = someAccount()
    const { version: floor, at } = newest[id]
    const { version } = await ask('GET', `/${way}/${id}`)
    seen.asked++
    if (sent >= from) seen.reads++
    if (version >= floor) continue
    seen.stale++
    seen.latestMs = Math.max(seen.latestMs, sent - at)
  }
}

async function writeOn() {
  while (performance.now() < end) {
    const id = someAccount()
    const sent = performance.now()
    const { version } = await ask('PUT', `/${way}/${id}?name=name${seen.writes}`)
    const at = performance.now()
    if (version > newest[id].version) newest[id] = { version, at }
    writeMs.push(at - sent)
    seen.writes++
    await sleep(PAUSE_MS)
  }
}

/** An account; some are asked for more often than others. */
function someAccount() {
  return Math.floor(accounts * Math.random() ** 3)
}

/** Asks some thread; gives its answer. */
function ask(method, path) {
  const port = ports[Math.floor(Math.random() * ports.length)]
  return new Promise((resolve, reject) => {
    const sent = request({ agent, port, method, path }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text) => (body += text))
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(body))
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${body}`))
      })
    })
    sent.on('timeout', () => sent.destroy(new Error(`${method} ${path}: no answer`)))
    sent.on('error', reject).end()
  })
}
