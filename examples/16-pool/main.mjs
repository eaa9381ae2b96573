// A pool on two threads: results, an urgent task, progress, cancelling a loop without an end.

import { boot, createPool } from 'interprocessor'
import { countPrimes, hasBegun, runaway, steps } from './tasks.mjs'

const tasks = new URL('./tasks.mjs', import.meta.url)
const machine = await boot({ cpus: 2, entry: tasks })
const pool = createPool(machine)
await pool.ready

// One CPU computes; what is urgent runs on top of it, at its next safepoint.
const words = new Int32Array(new SharedArrayBuffer(4))
let over = false
const primes = pool.run(countPrimes, { below: 200_000, words }).finally(() => (over = true))
while (Atomics.load(words, 0) === 0) await new Promise((resolve) => setImmediate(resolve))
const begun = await pool.run(hasBegun, words, { priority: 'realtime' })
console.log(`the urgent task has run: ${begun}; the other is over: ${over}`)
console.log(`there are ${String(await primes)} primes`)

await pool.run(steps, 2, { onReport: (report) => console.log(report) })

try {
  await pool.run(runaway, undefined, { timeoutMs: 50 })
} catch (error) {
  console.log(`${error.code}, ${error.outcome}: its thread is kept`)
}

const { greet } = pool.module(tasks)
console.log(await greet('pool'))
await pool.close()
await machine.close()
