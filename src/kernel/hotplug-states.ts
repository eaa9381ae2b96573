/**
 * Hotplug states: what every CPU has set up, those that come later too. Linux `kernel/cpu.c`,
 * cpuhp_setup_state. Kept by the boot CPU; each AP remembers its own way out.
 */

import { IpiError } from '../base/errors.ts'
import type { Control } from './control.ts'
import type { SharedFunction } from './functions.ts'
import { describe, type Kernel } from './kernel.ts'
import { HOTPLUG_FUNCTIONS, type HotplugReplay } from './protocol.ts'

/** What a thread does when a CPU comes up, and when it leaves. */
export interface HotplugState {
  /** Runs on every online CPU now, and on each later CPU before it is online. A throw vetoes. */
  readonly startup?: SharedFunction<never> | string
  /** Runs on each CPU that leaves, the last set-up first. A throw vetoes. */
  readonly teardown?: SharedFunction<never> | string
}

/** The states of a machine, on its boot CPU. */
export class HotplugStates {
  readonly #kernel: Kernel
  readonly #control: Control
  readonly #timeoutMs: number
  readonly #states: HotplugReplay[] = []

  constructor(kernel: Kernel, control: Control, timeoutMs: number) {
    this.#kernel = kernel
    this.#control = control
    this.#timeoutMs = timeoutMs
  }

  /** What a late joiner replays, in order. */
  get replays(): readonly HotplugReplay[] {
    return this.#states
  }

  /**
   * `cpuhp_setup_state`: runs `startup` on every online CPU now, one after the other, and on every
   * later CPU before it is online, with the same argument; so late joiners have what the others
   * have. The same name again replaces the state. Rejects with `IPI_HOTPLUG_VETO` if a startup
   * throws: the CPUs that had run it run `teardown`.
   */
  setupState(name: string, state: HotplugState, info: unknown): Promise<void> {
    return this.#control.exclusively('cpuhpSetupState', this.#timeoutMs, async () => {
      const replay: HotplugReplay = {
        name,
        startup: this.#nameOf(state.startup),
        teardown: this.#nameOf(state.teardown),
        info,
      }
      const { calls, cpu } = this.#kernel
      const done: number[] = []
      try {
        for (const each of cpu.memory.onlineMask) {
          if (replay.startup !== undefined) await calls.single(each, replay.startup, info)
          done.push(each)
        }
      } catch (cause) {
        for (const each of done.reverse()) {
          if (replay.teardown === undefined) continue
          // One that fails keeps nobody else from being torn down, and hides nothing of the veto.
          await calls.single(each, replay.teardown, info).catch((error: unknown) => {
            cpu.platform.warn(
              `interprocessor: teardown of "${name}" on CPU ${each}: ${describe(error)}`,
            )
          })
        }
        const why = cause instanceof Error ? cause.message : String(cause)
        throw new IpiError('IPI_HOTPLUG_VETO', `hotplug state "${name}" was refused: ${why}`, {
          cause,
        })
      }
      const at = this.#states.findIndex((known) => known.name === name)
      if (at < 0) this.#states.push(replay)
      else this.#states[at] = replay
      await calls.all(HOTPLUG_FUNCTIONS.setState, replay)
    })
  }

  /** `cpuhp_remove_state`: runs `teardown` on every online CPU and forgets the state. */
  removeState(name: string): Promise<void> {
    return this.#control.exclusively('cpuhpRemoveState', this.#timeoutMs, async () => {
      const at = this.#states.findIndex((known) => known.name === name)
      if (at < 0) {
        throw new IpiError('IPI_INVALID_ARGUMENT', `there is no hotplug state "${name}"`)
      }
      const [state] = this.#states.splice(at, 1)
      const { calls } = this.#kernel
      await calls.all(HOTPLUG_FUNCTIONS.removeState, name)
      if (state?.teardown !== undefined) await calls.each(state.teardown, state.info)
    })
  }

  #nameOf(fn: SharedFunction<never> | string | undefined): string | undefined {
    return fn === undefined ? undefined : this.#kernel.functions.resolve(fn).name
  }
}
