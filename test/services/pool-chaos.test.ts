// Everything at once: tasks of all kinds, cancelled at any moment, on CPUs that come, leave and die. Every
// task settles, with its own answer or with a reason, and nothing is left behind.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPool, type Machine, type Pool } from '../../src/index.ts'
import { TASK_SLOT } from '../../src/hardware/layout.ts'
import { load } from '../../src/hardware/memory.ts'
import { TaskMemory, taskState } from '../../src/kernel/sched/task.ts'
import { withPool } from '../support/pool-harness.ts'
import { Dice } from '../support/random.ts'
import { dies, echo, makeWords, runsAway, sleeps, yields } from '../support/pool-tasks.ts'

const RUN_MS = 4000
const FLIGHT = 60
/** Why a task may fail here. */
const REASONS = ['IPI_ABORTED', 'IPI_TIMEOUT', 'IPI_CPU_DIED', 'IPI_NO_CPU']

const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))

/** One task at a time, until the time is over. */
async function submitter(pool: Pool, dice: Dice, until: number): Promise<void> {
  while (performance.now() < until) {
    const value = dice.below(1000)
    const controller = new AbortController()
    const options = dice.below(3) === 0 ? { signal: controller.signal } : undefined
    const kind = dice.below(20)
    const task =
      kind === 0
        ? pool.run(sleeps, dice.below(20), options)
        : kind === 1
          ? pool.run(yields, { words: makeWords(64), mark: 1, count: 5 }, options)
          : kind === 2
            ? pool.run(runsAway, makeWords(), { timeoutMs: 1 + dice.below(20) })
            : kind < 6
              ? pool.run(echo, new Map([[value, 'by port']]), options)
              : pool.run(echo, value, options)
    const delay = dice.below(4)
    if (options !== undefined && delay === 0) controller.abort()
    if (options !== undefined && delay > 0) setTimeout(() => controller.abort(), delay)
    try {
      const answer = await task
      if (kind >= 6) assert.equal(answer, value)
      else if (kind >= 3) assert.equal((answer as Map<number, string>).get(value), 'by port')
    } catch (error) {
      const { code } = error as { code?: string }
      if (code === undefined || !REASONS.includes(code)) throw error
    }
  }
}

/** Ends threads, takes CPUs down, and brings them up again. */
async function hotplugger(pool: Pool, machine: Machine, dice: Dice, until: number): Promise<void> {
  while (performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, dice.below(60)))
    const cpu = 1 + dice.below(3)
    try {
      if (!machine.onlineMask.has(cpu)) await machine.cpuUp(cpu)
      else if (dice.below(3) === 0) await pool.run(dies, undefined, { cpu })
      else await machine.cpuDown(cpu, { force: true })
    } catch (error) {
      const { code } = error as { code?: string }
      if (code?.startsWith('IPI_') !== true) throw error
    }
  }
}

test(`every task settles, whatever happens to its CPU (seed ${seed})`, async () => {
  await withPool(4, async (first, machine) => {
    const dice = new Dice(seed)
    const second = createPool(machine, { concurrency: 2 })
    const until = performance.now() + RUN_MS
    const agents = [hotplugger(first, machine, dice, until)]
    for (let i = 0; i < FLIGHT; i++)
      agents.push(submitter(i % 2 === 0 ? first : second, dice, until))
    await Promise.all(agents)
    assert.equal(first.stats.open, 0)
    assert.equal(second.stats.open, 0)
    for (const cpu of [1, 2, 3]) if (!machine.onlineMask.has(cpu)) await machine.cpuUp(cpu)
    // Everybody answers, and every slot comes home.
    const { kernel } = machine
    const tasks = new TaskMemory(kernel.cpu.memory)
    const out = (): number[] =>
      Array.from({ length: kernel.cpu.memory.taskCount }, (_, i) => i).filter(
        (i) => taskState(load(tasks.words, tasks.at(i) + TASK_SLOT.flags)) !== 0,
      )
    for (let i = 0; i < 1000 && out().length > 0; i++) await first.runOnAll(echo, i)
    assert.deepEqual(
      out().map((i) => load(tasks.words, tasks.at(i) + TASK_SLOT.flags).toString(16)),
      [],
    )
    assert.equal((await first.runOnAll(echo, 1)).size, 3)
  })
})
