/** The CPUs of a pool: warm before their first task, empty before they leave. */

import type { CpuMask } from '../../base/cpu-mask.ts'
import { IpiError } from '../../base/errors.ts'
import { SmpCallError } from '../../kernel/call.ts'
import type { Machine } from '../../kernel/machine.ts'
import { BOOT_CPU } from '../../kernel/protocol.ts'
import { CLOSE_RUN_QUEUE } from '../../kernel/sched.ts'
import type { PoolOptions } from './options.ts'

/** How often one looks whether a CPU has ended what it had begun. */
const LOOK_MS = 5

let pools = 0

/** What a pool sets up on every CPU, and takes down again. */
export class Warmth {
  readonly #machine: Machine
  readonly #options: PoolOptions
  readonly #name: string

  constructor(machine: Machine, options: PoolOptions) {
    this.#machine = machine
    this.#options = options
    this.#name = `interprocessor.pool.${++pools}`
  }

  get #isWanted(): boolean {
    return this.#options.warmUp !== undefined || this.#options.teardown !== undefined
  }

  /** Warms every CPU, and each that comes later before it is online. */
  async begin(): Promise<void> {
    if (!this.#isWanted) return
    const { warmUp, teardown } = this.#options
    await this.#machine.cpuhpSetupState(this.#name, {
      ...(warmUp === undefined ? {} : { startup: warmUp }),
      ...(teardown === undefined ? {} : { teardown }),
    })
  }

  /** Takes it down again, everywhere. */
  async end(): Promise<void> {
    if (this.#isWanted) await this.#machine.cpuhpRemoveState(this.#name)
  }
}

/** Runs something on several CPUs at once; gives what each gave. Rejects with `IPI_CALL_FAILED`, `IPI_NO_CPU`. */
export async function onAll<Result>(
  name: string,
  cpus: readonly number[],
  run: (cpu: number) => Promise<Result>,
): Promise<Map<number, Result>> {
  if (cpus.length === 0) throw new IpiError('IPI_NO_CPU', 'no CPU takes tasks of this pool')
  const results = new Map<number, Result>()
  const errors = new Map<number, unknown>()
  const one = async (cpu: number): Promise<void> => {
    try {
      results.set(cpu, await run(cpu))
    } catch (error) {
      errors.set(cpu, error)
    }
  }
  await Promise.all(cpus.map(one))
  if (errors.size === 0) return results
  throw new SmpCallError(name, results, errors)
}

/** Whose size changes: the CPUs that it has now, those that it may have, how long they may take. */
interface Resizing {
  readonly wanted: () => number[]
  readonly mask: CpuMask | undefined
  readonly timeoutMs: number
}

/** Brings CPUs up, or takes the highest down, until there are `count`. */
export async function resizeTo(
  machine: Machine,
  count: number,
  { wanted, mask, timeoutMs }: Resizing,
): Promise<void> {
  while (wanted().length < count) {
    const free = [...(mask ?? machine.possibleMask)].find(
      (id) => id !== BOOT_CPU && !machine.presentMask.has(id),
    )
    // None free: cpuUp says so.
    await machine.cpuUp(free)
  }
  for (const cpu of wanted().slice(count).reverse()) {
    await drainCpu(machine, cpu, timeoutMs)
    await machine.cpuDown(cpu, { force: true })
  }
}

/**
 * Closes the run queue of a CPU and waits until everything has ended that had begun there. Rejects with
 * `IPI_TIMEOUT`; the queue stays closed.
 */
async function drainCpu(machine: Machine, cpu: number, timeoutMs: number): Promise<void> {
  const { waits } = machine.kernel
  // Between two looks nothing else may keep this thread alive.
  waits.hold()
  try {
    await awaitEmpty(machine, cpu, timeoutMs)
  } finally {
    waits.release()
  }
}

async function awaitEmpty(machine: Machine, cpu: number, timeoutMs: number): Promise<void> {
  const { platform } = machine.cpu
  const until = platform.now() + timeoutMs
  for (;;) {
    const rest = Math.max(1, until - platform.now())
    const begun = await machine.smpCallFunctionSingle<undefined, number>(
      cpu,
      CLOSE_RUN_QUEUE,
      undefined,
      { timeoutMs: rest },
    )
    if (begun === 0) return
    if (platform.now() >= until) {
      throw new IpiError(
        'IPI_TIMEOUT',
        `CPU ${cpu} has not ended ${String(begun)} tasks within ${timeoutMs} ms`,
        { cpu, waitedMs: timeoutMs },
      )
    }
    await new Promise<void>((resolve) => void platform.startTimer(LOOK_MS, resolve))
  }
}
