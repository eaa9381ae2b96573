/** Looking at a machine for a while: what a {@link Machine} inherits beside its verbs. */

import { IpiError } from '../base/errors.ts'
import { checkForcedEntry } from './forced.ts'
import type { Hotplug } from './hotplug.ts'
import { InterruptFamily } from './interrupt-family.ts'
import type { Kernel } from './kernel.ts'
import type { MachineProfile, ProfileOptions, ProfileTrack } from './profile.ts'

const INTERVAL_MS = 10

/** The ways to look that take time. */
export class Looking extends InterruptFamily {
  readonly #kernel: Kernel
  readonly #hotplug: Hotplug | undefined

  /** @internal */
  constructor(kernel: Kernel, hotplug: Hotplug | undefined) {
    super(kernel)
    this.#kernel = kernel
    this.#hotplug = hotplug
  }

  /**
   * Samples for `durationMs` what every CPU runs, this thread included, by forced entries, busy or not:
   * `JSON.stringify(await machine.profile(1000))` is a `.cpuprofile` for Chrome's developer tools. CPU 0
   * only, from a task. Ends late if this thread is busy then. Rejects with `IPI_INVALID_ARGUMENT`,
   * `IPI_NO_FORCED_ENTRY`, `IPI_WOULD_DEADLOCK`, `IPI_MACHINE_CLOSED`, and `IPI_NOT_SUPPORTED` on
   * others. One at a time: another one ends the sampling of the one before.
   */
  async profile(durationMs: number, options: ProfileOptions = {}): Promise<MachineProfile> {
    const { intervalMs = INTERVAL_MS } = options
    const { cpu, forced, waits } = this.#kernel
    const hotplug = this.#checkProfile(durationMs, intervalMs)
    checkForcedEntry(forced.capabilities, 'profile')
    waits.checkMayWait('profile', false)
    const { MachineProfile } = await import('./profile.ts')
    const sampling = await cpu.platform.forced!.startSampling(intervalMs, durationMs)
    const startMs = cpu.platform.now()
    const cpuOf = hotplug.cpusByThread()
    try {
      // It may have been closed meanwhile.
      waits.checkOpen()
      const over = new Error('it is over')
      const sleep = waits.until(
        () => false,
        durationMs,
        () => over,
      )
      await sleep.catch((error: unknown) => {
        if (error !== over) throw error
      })
    } finally {
      sampling.stop()
    }
    const tracks = new Map<number, ProfileTrack>()
    for (const [threadId, number] of cpuOf) {
      const samples = sampling.stop().filter((sample) => sample.threadId === threadId)
      tracks.set(number, { name: `CPU ${number}`, samples })
    }
    return new MachineProfile(tracks, { startMs, endMs: cpu.platform.now() })
  }

  #checkProfile(durationMs: number, intervalMs: number): Hotplug {
    const isTime = (value: unknown, least: number): boolean =>
      typeof value === 'number' && value >= least && value < Infinity
    if (!isTime(durationMs, 1) || !isTime(intervalMs, 1)) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        'profile(durationMs, { intervalMs }) takes milliseconds >= 1, got ' +
          `${String(durationMs)} and ${String(intervalMs)}`,
      )
    }
    if (this.#hotplug !== undefined) return this.#hotplug
    throw new IpiError(
      'IPI_NOT_SUPPORTED',
      'profile works on CPU 0 only, which alone holds the threads of the others; call a shared ' +
        'function there that starts it',
      { cpu: this.#kernel.cpu.id },
    )
  }
}
