/**
 * The machine under all Piscinas of a thread. A thread belongs to one machine at most, and people make
 * pools as they need them; so the first makes the machine, the last closes it, and a machine that is
 * there already is used.
 */

import { availableParallelism } from 'node:os'
import type { Worker } from 'node:worker_threads'
import type { MachineOptions } from '../../kernel/config.ts'
import type { Machine } from '../../kernel/machine.ts'
import { createPool, type Pool } from '../pool.ts'

/** What the entry file knows and a service does not. */
export interface GroundPort {
  createMachine(options: MachineOptions): Machine
  /** The machine that the calling thread belongs to, if there is one. */
  findMachine(): Machine | undefined
  /** What a thread of a Piscina runs. */
  readonly threadScript: URL
}

/** A worker's place in the machine. */
export interface Seat {
  readonly machine: Machine
  readonly cpu: number
  /** Runs tasks there and nowhere else. */
  readonly pool: Pool
}

/** CPUs that the machine can have: its memory grows with it, and is used where there is a CPU. */
const CPUS_MIN = 64
const CPUS_MAX = 256
const CPUS_PER_PROCESSOR = 4

/** One per thread. */
export class Ground {
  readonly #port: GroundPort
  #holders = 0
  /** The machine that was made here, and not found. */
  #own: Machine | undefined
  #closing: Promise<void> = Promise.resolve()

  constructor(port: GroundPort) {
    this.#port = port
  }

  /** What a thread of a Piscina runs. */
  get threadScript(): URL {
    return this.#port.threadScript
  }

  /** A pool has threads: the machine stays until `release`. */
  hold(): void {
    this.#holders++
  }

  /** A pool has no threads any more. */
  async release(): Promise<void> {
    const machine = this.#own
    if (--this.#holders > 0 || machine === undefined) return
    this.#own = undefined
    this.#closing = machine.close()
    await this.#closing
  }

  /** Makes a worker a CPU. Rejects as `machine.bringUp` does. */
  async seat(worker: Worker): Promise<Seat> {
    await this.#closing
    const machine = this.#port.findMachine() ?? this.#createMachine()
    const cpu = await machine.bringUp(worker)
    return { machine, cpu, pool: createPool(machine, { cpus: [cpu] }) }
  }

  #createMachine(): Machine {
    const wanted = Math.max(CPUS_MIN, availableParallelism() * CPUS_PER_PROCESSOR)
    this.#own = this.#port.createMachine({ maxCpus: Math.min(wanted, CPUS_MAX) })
    // The worker's own event tells how it ended, and the pool passes that on.
    this.#own.on('died', () => undefined)
    return this.#own
  }
}
