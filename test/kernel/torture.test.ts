/**
 * Torture on real threads: all call functions at random from all CPUs, with and without CPUs that
 * come and go. Rows D-176, D-177 and D-182 to D-184 of docs/conformance.md, after the kernel's
 * kernel/scftorture.c. `KERNEL_TORTURE_SEED=… node --test …` makes the same choices again; the
 * schedule is the machine's.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CALL_DRIVERS } from '../support/kernel-bench.ts'
import { identify, nothing } from '../support/kernel-tasks.ts'
import { bootThreads, until, type Threads } from '../support/kernel-threads.ts'
import {
  CALLS_MAX,
  startTorture,
  torture,
  TORTURE,
  tortureWords,
  useTorture,
  type TortureOrders,
} from '../support/kernel-torture.ts'

const ENTRY = new URL('../support/kernel-torture.js', import.meta.url)

const seedOf = (): number =>
  Number(process.env['KERNEL_TORTURE_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

async function ready({ machine }: Threads): Promise<Int32Array> {
  const buffer = new SharedArrayBuffer(TORTURE.size * 4)
  await machine.cpuhpSetupState('kernel.torture', { startup: useTorture }, buffer)
  return tortureWords()
}

/** D-184: after one empty call to all, whatever was called before has run; nothing runs after it. */
async function drain({ machine }: Threads, words: Int32Array): Promise<void> {
  await machine.smpCallFunction(nothing, undefined, { wait: false })
  await machine.onEachCpu(nothing)
  Atomics.store(words, TORTURE.closed, 1)
  for (let i = 0; i < 3; i++) await machine.onEachCpu(identify)
}

/** Each call was run by those that must have run it, and by nobody who may not have. */
function assertAccounts(words: Int32Array, seed: number): void {
  const calls = words[TORTURE.calls]!
  assert.ok(calls <= CALLS_MAX)
  assert.equal(words[TORTURE.errors], 0, `errors, see above; seed ${seed}`)
  for (let index = 0; index < calls; index++) {
    const [ran, must, may] = [TORTURE.ran, TORTURE.must, TORTURE.may].map(
      (table) => words[table + index]!,
    )
    assert.equal(must! & ~ran!, 0, `call ${index} returned and was not run; seed ${seed}`)
    assert.equal(ran! & ~may!, 0, `call ${index} failed and was run; seed ${seed}`)
  }
}

for (const callDriver of CALL_DRIVERS) {
  test(`D-176, D-177, D-183, D-184 all calls at random, some of them long (${callDriver})`, async (t) => {
    const seed = seedOf()
    t.diagnostic(`seed ${seed}`)
    await using threads = await bootThreads({ cpus: 4, maxCpus: 5, callDriver, entry: ENTRY })
    const words = await ready(threads)
    const orders: TortureOrders = { seed, calls: 150, stayUsMax: 3000 }
    await threads.machine.smpCallFunction(startTorture, orders)
    await torture(orders)
    await until(() => Atomics.load(words, TORTURE.through) === 4, `all are through; seed ${seed}`)
    await drain(threads, words)
    assert.equal(words[TORTURE.calls], 4 * orders.calls)
    assertAccounts(words, seed)
  })

  test(`D-182 the same while a CPU comes and goes (${callDriver})`, async (t) => {
    const seed = seedOf()
    t.diagnostic(`seed ${seed}`)
    await using threads = await bootThreads({ cpus: 3, maxCpus: 4, callDriver, entry: ENTRY })
    const { machine } = threads
    const words = await ready(threads)
    const orders: TortureOrders = { seed, calls: 40, stayUsMax: 500 }
    for (let life = 0; life < 3; life++) {
      const inThisLife = { ...orders, seed: seed + life }
      const before = Atomics.load(words, TORTURE.through)
      await machine.smpCallFunctionMany([1, 2], startTorture, inThisLife)
      const own = torture(inThisLife)
      // While the others call it, it comes, calls them, and goes.
      assert.equal(await machine.cpuUp(3), 3)
      await machine.smpCallFunctionSingle(3, startTorture, inThisLife)
      await machine.cpuDown(3)
      await own
      await until(
        () => Atomics.load(words, TORTURE.through) >= before + 3,
        `all but CPU 3 are through; seed ${seed}`,
      )
    }
    await drain(threads, words)
    assert.equal(machine.onlineMask.toString(), '0-2')
    assertAccounts(words, seed)
  })
}
