/**
 * The host's timer behind the local APIC's: an APIC in shared memory has no clock that wakes anybody.
 * Linux 2.6.11 `arch/i386/kernel/apic.c`, smp_apic_timer_interrupt.
 */

import type { Timer } from '../hardware/platform.ts'
import type { Cpu } from './cpu.ts'

/** Arms a timer of the event loop for the time at which the APIC's timer expires. One per CPU. */
export class LocalTimer {
  readonly #cpu: Cpu
  #host: Timer | undefined
  #checking = false

  constructor(cpu: Cpu) {
    this.#cpu = cpu
    cpu.onTimerArmed = () => this.check()
  }

  /** Fires what is due and arms the host for what is next. Also called by a blocked wait. */
  check(): void {
    // Firing a periodic timer arms it again, which leads here.
    if (this.#checking) return
    this.#checking = true
    const { apic, platform } = this.#cpu
    const next = apic.pollTimer()
    this.#checking = false
    this.#host?.cancel()
    this.#host = undefined
    if (next === Infinity) return
    this.#host = platform.startTimer(Math.max(0, next - platform.now()), () => {
      this.#host = undefined
      this.check()
      this.#cpu.core.deliverInterrupts('eventLoop')
    })
  }

  /** Never fires again. */
  stop(): void {
    this.#host?.cancel()
    this.#cpu.onTimerArmed = () => undefined
  }
}
