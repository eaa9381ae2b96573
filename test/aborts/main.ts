/**
 * What `npm run aborts` runs: aborts in a row, of every kind of task, mixed with tasks that end by
 * themselves and with ordinary calls; nothing may be lost. Prints what came of them.
 */

import assert from 'node:assert/strict'
import { parseArgs } from 'node:util'
import { boot, type AbortOutcome } from '../../src/index.ts'
import {
  ENDED,
  ENDLESS,
  lookAround,
  openExecutor,
  runTasks,
  STARTED,
  type Order,
} from '../support/abort-tasks.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { Board, settled } from '../support/machine-board.ts'
import { describeScene } from '../support/machine-scene.ts'
import { echo, runTask, setBoard } from '../support/machine-tasks.ts'
import { Dice } from '../support/random.ts'

/** Nobody is replaced for being slow: that would hide it. */
const PATIENT = { timeoutMs: 60_000 }
/** After so many the thread is asked how it is. */
const LOOK_EVERY = 20
/** Three tasks in each round: one that is aborted, between two that end by themselves. */
const ORDERS = 3

/** These are in code of Node's nearly all the time: each costs 50 ms, and a thread. So they are rare. */
const SLOW: readonly Order['name'][] = ['fs', 'crypto']
const SLOW_CHANCE = 0.01
const NAMES: readonly Order['name'][] = [
  ...(Object.keys(ENDLESS) as Order['name'][]).filter((name) => !SLOW.includes(name)),
  'cpu.poll()',
  'cpu.halt()',
]

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
  },
})
const count = Number(values.count)
const dice = new Dice(Number(values.seed))
const machine = await boot({
  cpus: 2,
  entry: new URL('../support/abort-tasks.js', import.meta.url),
  // A task that does not end is what this is about.
  watchdogMs: Infinity,
  // Hazard C of docs/interrupting.md: else V8 does not look into some loops of Node 24 and later.
  pollEveryLoop: true,
})
const board = new Board()
const latencies: { readonly ms: number; readonly name: string }[] = []
const outcomes = new Map<string, Map<AbortOutcome, number>>()
let sinceLook = 0

await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
await settled(runTask(1, openExecutor), 'opening')
const startMs = performance.now()
try {
  for (let i = 0; i < count; i++) {
    await abortOne(i * ORDERS + 1)
    if (i % LOOK_EVERY === LOOK_EVERY - 1) await look()
    if (i % 1000 === 999) console.log(`${i + 1} of ${count}`)
  }
} catch (error) {
  console.log(await describeScene(machine))
  throw error
}
print(performance.now() - startMs)
await machine.close()

async function abortOne(first: number): Promise<void> {
  const task = first + 1
  const name = dice.pick(dice.chance(SLOW_CHANCE) ? SLOW : NAMES)
  const orders: readonly Order[] = [
    { task: first, name: 'quick' },
    { task, name },
    { task: task + 1, name: dice.chance(0.5) ? 'quick' : 'a little longer' },
  ]
  await machine.smpCallFunctionSingle(1, runTasks, { orders })
  while (board.get(STARTED) < task);
  // They wait until the task comes to a safepoint, or is gone.
  const calls = [1, 2].map((call) =>
    machine.smpCallFunctionSingle(1, echo, { task, call }, PATIENT),
  )
  const spinUntil = performance.now() + dice.below(200) / 1000
  while (performance.now() < spinUntil);
  const before = performance.now()
  const outcome = await machine.abortTask(1, task, PATIENT)
  latencies.push({ ms: performance.now() - before, name })
  const results = await settled(Promise.all(calls), `the calls beside "${name}"`)
  assert.deepEqual(results, [
    { task, call: 1 },
    { task, call: 2 },
  ])
  await board.reached(ENDED, task + 1)
  sinceLook++
  const ofName = outcomes.get(name) ?? new Map<AbortOutcome, number>()
  outcomes.set(name, ofName.set(outcome, (ofName.get(outcome) ?? 0) + 1))
  assert.match(outcome, /^(?:aborted|unsafe)$/, `${name}: ${outcome}`)
  if (outcome === 'unsafe') await replace()
}

async function replace(): Promise<void> {
  await look()
  assert.equal(await machine.replaceCpu(1), true)
  await settled(runTask(1, openExecutor), 'opening')
}

/** Every task has ended once, and of those that were aborted nothing is left. */
async function look(): Promise<void> {
  const { aborted, left, order, store, ...rest } = await settled(runTask(1, lookAround), 'a task')
  // Aborted by an error at a safepoint, or without one.
  const asked = left.filter(({ wasAsked }) => wasAsked)
  assert.equal(aborted.length + asked.length, sinceLook)
  assert.equal(aborted.length + left.length, sinceLook * ORDERS)
  assert.ok(left.every(({ wasAsked, error }) => wasAsked || error === undefined))
  assert.deepEqual([order, store], ['tick microtask', undefined])
  assert.deepEqual(rest, {
    asyncId: true,
    irqsDisabled: false,
    inInterrupt: false,
    preemptCount: 0,
    kernelDepth: 0,
    threadFlags: 0,
  })
  await expectBalancedBooks(machine, [1])
  sinceLook = 0
}

function print(ms: number): void {
  latencies.sort((a, b) => a.ms - b.ms)
  const at = (part: number): string => latencies[Math.floor(part * (count - 1))]!.ms.toFixed(2)
  for (const [name, ofName] of [...outcomes].sort()) {
    const each = [...ofName].map(([outcome, times]) => `${times} ${outcome}`)
    console.log(`${name.padEnd(28)} ${each.join(', ')}`)
  }
  const all = (outcome: AbortOutcome): number =>
    [...outcomes.values()].reduce((sum, ofName) => sum + (ofName.get(outcome) ?? 0), 0)
  console.log(
    `Node ${process.versions.node}: ${count} aborts in ${(ms / 1000).toFixed(0)} s: ` +
      `${all('aborted')} aborted, ${all('unsafe')} unsafe, nothing lost; ` +
      `ms until known: p50 ${at(0.5)}, p90 ${at(0.9)}, p99 ${at(0.99)}, max ${at(1)} (${latencies.at(-1)!.name})`,
  )
}
