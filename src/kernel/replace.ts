/**
 * Giving a CPU another thread: for one that is stuck, or that has been aborted where it should not be.
 * The boot CPU does it, any CPU may ask. What was sent to the old thread fails as after any death.
 */

import { IpiError } from '../base/errors.ts'
import { CPU } from '../hardware/layout.ts'
import type { Hotplug, StartThread } from './hotplug.ts'
import { describe, type Kernel } from './kernel.ts'
import { BOOT_CPU } from './protocol.ts'
import { wakeEverybody } from './robust-lock.ts'

/** What is asked of the boot CPU. */
const REPLACE = 'interprocessor.replaceCpu'
/** How long another CPU waits for the boot CPU to have done it, beside what the old thread gets. */
const REPLACE_MS = 15_000

/** Which thread shall go. */
interface Replacement {
  readonly cpu: number
  /** Which life of it: if it has another already, nothing is to be done. */
  readonly life: number
  /** How long it has to leave by itself. */
  readonly timeoutMs: number
}

/** On the boot CPU: from now on other CPUs may ask. Gives what it calls for itself. */
export function openReplacement(
  kernel: Kernel,
  hotplug: Hotplug,
  start: StartThread,
): (asked: Replacement) => Promise<boolean> {
  const underWay = new Map<number, Promise<boolean>>()
  const replace = (asked: Replacement): Promise<boolean> => {
    const { cpu, life, timeoutMs } = asked
    if (lifeOf(kernel, cpu) !== life) return Promise.resolve(kernel.cpu.isOnline(cpu))
    const joined = underWay.get(cpu)
    if (joined !== undefined) return joined
    const done = hotplug.replace(cpu, timeoutMs, start)
    const over = done.finally(() => {
      underWay.delete(cpu)
      wakeEverybody(kernel.cpu)
    })
    underWay.set(cpu, over)
    return over
  }
  kernel.functions.register(REPLACE, (asked: Replacement) => {
    const { platform } = kernel.cpu
    // Whoever asks looks at the CPU itself, and has its deadline.
    const warn = (error: unknown): void =>
      platform.warn(`interprocessor: CPU ${asked.cpu} was not replaced: ${describe(error)}`)
    // Not in this handler.
    platform.defer(() => void replace(asked).catch(warn))
    return hotplug.isOwned(asked.cpu)
  })
  return replace
}

/**
 * On any other CPU: asks for it, and waits until another thread is online under the number. Gives false
 * if there will be none, because the old one was the application's own.
 */
export async function askToReplace(
  kernel: Kernel,
  cpu: number,
  timeoutMs: number,
): Promise<boolean> {
  const life = lifeOf(kernel, cpu)
  const asked: Replacement = { cpu, life, timeoutMs }
  const owned = (await kernel.calls.single(BOOT_CPU, REPLACE, asked)) as boolean
  const isThere = (): boolean => kernel.cpu.isOnline(cpu)
  await kernel.waits.until(
    () => (owned ? lifeOf(kernel, cpu) !== life && isThere() : !isThere()),
    timeoutMs + REPLACE_MS,
    () =>
      new IpiError('IPI_TIMEOUT', `CPU ${cpu} was not replaced; CPU 0 has warned why`, {
        cpu,
        cpus: [cpu],
        waitedMs: timeoutMs + REPLACE_MS,
      }),
  )
  return owned
}

/** Which life of a CPU it is now. */
export function lifeOf(kernel: Kernel, cpu: number): number {
  return kernel.cpu.memory.readCpu(cpu, CPU.incarnation)
}
