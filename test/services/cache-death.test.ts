/**
 * Threads are ended at any moment while they read, write and flush: what is left stays coherent, every flush
 * ends, and no key stays broken.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { createMachine } from '../../src/index.ts'
import { CPU_STATE, SPACE, spaceLog } from '../../src/hardware/layout.ts'
import {
  keyOf,
  KEYS,
  openCacheHere,
  startReading,
  startWriting,
  TABLE_WORDS,
  theCache,
  WORD,
  write,
  type Flushing,
} from '../support/cache-tasks.ts'
import { stateOf, until } from '../support/kernel-threads.ts'
import { Dice } from '../support/random.ts'

const TASKS = new URL('../support/cache-tasks.js', import.meta.url)
const ADOPTED = new URL('../support/machine-adopted.js', import.meta.url)
/** How many threads are ended. */
const DEATHS = 8

for (const how of [
  ['visible', 'dropped', 'tag'],
  ['mutate'],
  ['quiesced', 'all'],
] as Flushing[][]) {
  test(`whoever dies, nobody reads what is old, and every flush ends: ${how.join()}`, async () => {
    const machine = createMachine({ maxCpus: 5, timeoutMs: 15_000 })
    const buffer = new SharedArrayBuffer(TABLE_WORDS * 4)
    const words = new Int32Array(buffer)
    await machine.cpuhpSetupState('cache', { startup: openCacheHere }, { buffer, turns: 2 })
    const workers = new Map<number, Worker>()
    const dice = new Dice(how.length)
    const start = async (): Promise<void> => {
      const worker = new Worker(ADOPTED, { workerData: { tasks: TASKS.href } })
      const cpu = await machine.bringUp(worker)
      workers.set(cpu, worker)
      if (dice.chance(0.6)) await machine.smpCallFunctionSingle(cpu, startWriting, { how })
      else await machine.smpCallFunctionSingle(cpu, startReading, { batch: 500 })
    }
    for (let cpu = 1; cpu < 5; cpu++) await start()
    for (let death = 0; death < DEATHS; death++) {
      const [cpu, worker] = dice.pick([...workers])
      // CPU 0 flushes at the same time, and must not be left waiting for the dead.
      const flushing = Promise.all([write(dice.below(KEYS), 'dropped'), write(0, 'quiesced')])
      await pause(dice.below(12))
      workers.delete(cpu)
      await worker.terminate()
      await flushing
      await until(() => stateOf(machine, cpu) === CPU_STATE.dead, 'it is buried')
      await start()
    }
    Atomics.store(words, WORD.stop, 1)
    await Promise.all([...workers.values()].map((worker) => worker.terminate()))
    const dead = (): boolean =>
      [1, 2, 3, 4].every((cpu) => stateOf(machine, cpu) === CPU_STATE.dead)
    await until(dead, 'all are buried')
    assert.equal(Atomics.load(words, WORD.stale), 0)
    assert.ok(Atomics.load(words, WORD.flushes) > DEATHS)
    // Every key can be kept again, and is what the table says.
    for (let index = 0; index < KEYS; index++) {
      const row = await theCache().fetch(keyOf(index))
      assert.equal(row?.version, words[index])
      assert.equal(theCache().get(keyOf(index)), row)
    }
    const { memory } = machine.cpu
    const mm = machine.kernel.tlb.findMm('cache users')
    const space = spaceLog(memory, mm)
    assert.equal(memory.words[space + SPACE.published], memory.words[space + SPACE.reserved])
    theCache().close()
    await machine.close()
  })
}
