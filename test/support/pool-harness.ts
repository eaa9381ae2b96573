/** A machine with a pool, for one test. */

import { boot, createPool, type Machine, type Pool, type PoolOptions } from '../../src/index.ts'

const entry = new URL('./pool-tasks.js', import.meta.url)

/** Boots, makes a pool, runs `body`, closes. */
export async function withPool(
  cpus: number,
  body: (pool: Pool, machine: Machine) => Promise<void>,
  options: PoolOptions = {},
  machineOptions: object = {},
): Promise<void> {
  const machine = await boot({ cpus, entry, ...machineOptions })
  try {
    const pool = createPool(machine, options)
    await pool.ready
    await body(pool, machine)
  } finally {
    await machine.close()
  }
}
