/**
 * Forced entry of a CPU whose thread does not look up: in the middle of a loop, blocked in a wait that
 * is not ours. The sender posts as always; then it has the target's thread entered, which delivers
 * what it finds posted, as far as its interrupt flag lets it and as it may run there (hardware/core.ts).
 *
 *    sender                                             target
 *      post, attention                                  entry:  asked := 0
 *      asked 0 -> 1?  have it entered  ~~~~~~~~~~~~~>           deliverInterrupts('forced')
 *      asked was 1:   an entry is on its way, which has not begun and will find the post
 */

import { IpiError } from '../base/errors.ts'
import { CPU, FORCED } from '../hardware/layout.ts'
import { and, or } from '../hardware/memory.ts'
import type { EntryEnd } from '../hardware/platform.ts'
import type { Cpu } from './cpu.ts'
import { BOOT_CPU } from './protocol.ts'

/** Throws `IPI_NO_FORCED_ENTRY` unless threads that do not look up can be reached. */
export function checkForcedEntry(capabilities: Capabilities, what: string): void {
  if (capabilities.forcedEntry) return
  throw new IpiError(
    'IPI_NO_FORCED_ENTRY',
    `${what} needs forced entry, and there is none: ${capabilities.reason}; leave it out, and the ` +
      'interrupt waits for the next safepoint of its target',
  )
}

/** What a machine can do, as seen from one CPU. */
export interface Capabilities {
  /**
   * Whether threads are reached that do not look up: NMIs, backtraces, `forceAfterMs` and the abort of
   * a task that comes to no safepoint rely on it.
   */
  readonly forcedEntry: boolean
  /** Why not. */
  readonly reason?: string
}

/**
 * Calls that an entry must have room for on the stack, before it takes anything: of `callDown`, whose
 * frames are large also when it is optimised. The work of an entry needs less than half of that.
 */
const ROOM_CALLS = 300

/** Forced entry, of this CPU and from it. */
export class ForcedEntry {
  readonly #cpu: Cpu
  #end: (() => void) | undefined
  /** Has the thread of a CPU entered; kernel/hotplug.ts binds it on the boot CPU. */
  enterThread: (cpu: number) => boolean = () => false
  /** What becomes of what was entered; kernel/task-guard.ts binds it. */
  decide: () => EntryEnd = () => 'goesOn'

  constructor(cpu: Cpu) {
    this.#cpu = cpu
    cpu.onBurial = () => this.#repeat()
  }

  /** Whether threads of this machine can be entered, and why not. */
  get capabilities(): Capabilities {
    const { forced } = this.#cpu.platform
    let reason = forced === undefined ? 'this environment has nothing of the kind' : forced.missing
    if (reason === undefined && !this.#isReady(BOOT_CPU)) {
      reason =
        'the machine was made in a worker, and only the main thread of a process reaches others'
    }
    return reason === undefined ? { forcedEntry: true } : { forcedEntry: false, reason }
  }

  /** From now on this CPU can be entered, and the boot CPU relays. Opens nothing yet. */
  open(): void {
    const { platform, memory, page, id } = this.#cpu
    const { forced } = platform
    if (forced === undefined || forced.missing !== undefined) return
    if (id === BOOT_CPU && !forced.relays) return
    this.#end = forced.accept(
      () => this.#enter(),
      (cpu) => this.#relay(cpu),
    )
    or(memory.words, page + CPU.forced, FORCED.ready)
  }

  /** This CPU is entered no more; on the boot CPU nobody is. */
  close(): void {
    const { core, memory, page } = this.#cpu
    // Retired, the page may be another life's.
    if (!core.isRetired) and(memory.words, page + CPU.forced, 0)
    this.#end?.()
    this.#end = undefined
  }

  #isReady(cpu: number): boolean {
    return (this.#cpu.memory.readCpu(cpu, CPU.forced) & FORCED.ready) !== 0
  }

  /**
   * Has another CPU entered, once for all who ask before it is; `again` repeats that. Gives whether it
   * can be. What it is to find must be posted before. Waits for nothing; any context.
   */
  force(target: number, again = false): boolean {
    if (!this.#isReady(target) || !this.#isReady(BOOT_CPU)) return false
    const { memory } = this.#cpu
    const old = or(memory.words, memory.cpuPage(target) + CPU.forced, FORCED.asked)
    if ((old & FORCED.asked) === 0 || again) this.#send(target)
    return true
  }

  #send(target: number): void {
    const { platform, id } = this.#cpu
    if (id === BOOT_CPU) this.#relay(target)
    else platform.forced?.ask(target)
  }

  /** On the boot CPU, in the middle of whatever it does. */
  #relay(target: number): void {
    if (target === BOOT_CPU) return void this.#enter()
    if (this.enterThread(target)) return
    // It is going, or gone. Whoever asks for its next life must not wait for this entry.
    const { memory } = this.#cpu
    and(memory.words, memory.cpuPage(target) + CPU.forced, ~FORCED.asked)
  }

  /** In the middle of whatever this thread runs; gives what becomes of that. */
  #enter(): EntryEnd {
    const { core, memory, page } = this.#cpu
    if (core.isRetired) return 'goesOn'
    // Without it the platform repeats the entry: nothing may be taken and then be lost half-way.
    callDown(ROOM_CALLS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    // Before the look: whoever posts after this, and asks, has the thread entered anew.
    and(memory.words, page + CPU.forced, ~FORCED.asked)
    core.deliverInterrupts('forced')
    return this.decide()
  }

  /**
   * Somebody has died. If that was between asking and having the thread entered, others rely on an
   * entry that will never be.
   */
  #repeat(): void {
    const { memory, id } = this.#cpu
    if (!this.#isReady(BOOT_CPU)) return
    for (const cpu of memory.onlineMask) {
      if (cpu !== id && (memory.readCpu(cpu, CPU.forced) & FORCED.asked) !== 0) this.#send(cpu)
    }
  }
}

/** Throws a RangeError unless there is room for so many calls. What it is given fills its frames. */
function callDown(
  calls: number,
  a: number,
  b: number,
  c: number,
  d: number,
  e: number,
  f: number,
  g: number,
  h: number,
  i: number,
  j: number,
): number {
  return calls === 0 ? a : 1 + callDown(calls - 1, b, c, d, e, f, g, h, i, j, a)
}
