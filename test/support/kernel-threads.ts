/** A machine of real threads for the kernel tests, and how a test waits for what they do. */

import assert from 'node:assert/strict'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import { boot, type BootOptions, type Machine } from '../../src/index.ts'
import { CPU } from '../../src/hardware/layout.ts'
import { sharedWords, useWords } from './kernel-tasks.ts'

/** The entry module of every other CPU. */
export const TASKS = new URL('./kernel-tasks.js', import.meta.url)

/** After this long something will not happen any more. */
const DEADLINE_MS = 20_000
/** After so many turns of the event loop the processor is left to those who are waited for. */
const TURNS_BEFORE_PAUSE = 100

/** A machine whose CPUs share words; closed by `await using`. */
export interface Threads extends AsyncDisposable {
  readonly machine: Machine
  readonly words: Int32Array
}

/** Boots a machine of which every CPU has the functions of kernel-tasks.ts and the same words. */
export async function bootThreads(
  options: BootOptions,
  bootWith: (options: BootOptions) => Promise<Machine> = boot,
): Promise<Threads> {
  const machine = await bootWith({ entry: TASKS, timeoutMs: 15_000, ...options })
  const buffer = new SharedArrayBuffer(sharedWords().byteLength)
  await machine.cpuhpSetupState('kernel.words', { startup: useWords }, buffer)
  return { machine, words: sharedWords(), [Symbol.asyncDispose]: () => machine.close() }
}

/** Lets the event loop turn until something is so. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS
  for (let turn = 0; !condition(); turn++) {
    if (Date.now() > deadline) assert.fail(`waited in vain until ${what}`)
    await (turn < TURNS_BEFORE_PAUSE ? nextTurn() : pause(1))
  }
}

/** What a CPU tells senders that it does: one of CPU_STATE. */
export function stateOf(machine: Machine, cpu: number): number {
  return machine.cpu.memory.readCpu(cpu, CPU.state)
}
