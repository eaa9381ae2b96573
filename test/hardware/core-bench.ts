/** A test bench of whole processors: cores over the APICs of ApicBench, all in this one thread. */

import { Core } from '../../src/hardware/core.ts'
import type { CoreHandlers } from '../../src/hardware/gates.ts'
import { CPU_STATE } from '../../src/hardware/layout.ts'
import { ApicBench } from './apic-bench.ts'

/** A core whose handlers write down what was taken; a test may replace any of them. */
export class TestCpu {
  readonly core: Core
  /** What was taken, in order: vectors as they are, the rest by name. */
  readonly log: (number | string)[] = []
  readonly handlers: { -readonly [K in keyof CoreHandlers]: CoreHandlers[K] }

  constructor(bench: ApicBench, cpu: number) {
    const apic = bench.apics[cpu]!
    const gate = (vector: number) => {
      this.log.push(vector)
      apic.eoi()
    }
    this.handlers = {
      gates: Array.from({ length: 256 }, () => gate),
      isInterruptSafe: () => true,
      nmi: () => void this.log.push('nmi'),
      init: () => {
        this.log.push('init')
        // An AP waits for start-up; the bootstrap processor begins again at its reset entry.
        if (cpu !== 0) this.core.state = CPU_STATE.waitingForSipi
      },
      startup: (page) => {
        this.log.push(`startup ${page.toString(16)}`)
        this.core.state = CPU_STATE.running
      },
      attention: (bits) => void this.log.push(`attention ${bits}`),
    }
    this.core = new Core(bench.memory, apic, this.handlers)
  }

  /** How often something was taken. */
  count(what: number | string): number {
    return this.log.filter((entry) => entry === what).length
  }

  /** What was taken since the last call. */
  takeLog(): (number | string)[] {
    return this.log.splice(0)
  }

  /** STI; NOP; CLI: opens exactly one window. */
  openWindow(): void {
    this.core.sti()
    this.core.poll()
    this.core.cli()
  }

  /** STI; NOP: interrupts are on from here. */
  turnOn(): void {
    this.core.sti()
    this.core.poll()
  }
}

/** Several processors over one memory. */
export class CoreBench extends ApicBench {
  readonly cpus: readonly TestCpu[]

  constructor(cpuCount: number) {
    super(cpuCount)
    this.cpus = Array.from({ length: cpuCount }, (_, cpu) => new TestCpu(this, cpu))
  }
}
