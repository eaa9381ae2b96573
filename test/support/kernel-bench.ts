/**
 * A bench of kernels: every CPU's kernel over one memory, all in this one thread, so that nothing
 * happens unless the test lets it. `poll` is one CPU's safepoint, `drive` everybody's in turn.
 */

import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { raiseApicMapGeneration } from '../../src/hardware/apic/page.ts'
import { CPU, CPU_STATE, HEADER } from '../../src/hardware/layout.ts'
import { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { store } from '../../src/hardware/memory.ts'
import { setupLocalApic } from '../../src/kernel/apic-setup.ts'
import type { CallDriverName } from '../../src/kernel/call-queue.ts'
import { createMemory, sharedOptions, type MachineOptions } from '../../src/kernel/config.ts'
import { Control } from '../../src/kernel/control.ts'
import { bury } from '../../src/kernel/death.ts'
import { FunctionTable } from '../../src/kernel/functions.ts'
import { Kernel } from '../../src/kernel/kernel.ts'
import type { SharedOptions } from '../../src/kernel/protocol.ts'
import { CLOSED } from '../../src/kernel/request.ts'
import { APIC_DRIVERS } from '../../src/kernel/send.ts'
import { TlbStateDriver } from '../../src/kernel/tlbstate.ts'
import { nodePlatform } from '../../src/platform/node.ts'

export { APIC_DRIVERS }
export const CALL_DRIVERS: readonly CallDriverName[] = ['queue', 'callData']

/** Offsets in the APIC page. */
export const APIC = {
  tpr: 0x080,
  ldr: 0x0d0,
  svr: 0x0f0,
  isr: 0x100,
  tmr: 0x180,
  irr: 0x200,
  esr: 0x280,
  icr: 0x300,
  icr2: 0x310,
  lvtLint1: 0x360,
  lvtError: 0x370,
} as const

/** No bench starts a thread; a platform wants to know how all the same. */
const THREAD_SCRIPT = new URL('../../src/thread.js', import.meta.url)
/** Turns of `drive` after which something is taken to be stuck. */
const TURNS_MAX = 200

/** How a bench is made. */
export interface BenchOptions extends MachineOptions {
  /** The CPUs that are online, if not all possible ones. */
  readonly online?: readonly number[]
}

/** Several kernels in one thread; CPUs are online, their interrupts on. */
export class KernelBench {
  readonly memory: MachineMemory
  kernels: readonly Kernel[] = []
  /** What was said to the operator. */
  readonly warnings: string[] = []
  readonly #byCpu = new Map<number, Kernel>()
  readonly #shared: SharedOptions
  #incarnation = 0
  readonly #controls = new Map<number, Control>()

  constructor(possible: number, options: BenchOptions = {}) {
    const { online = Array.from({ length: possible }, (_, cpu) => cpu), ...rest } = options
    this.#shared = sharedOptions({ watchdogMs: Infinity, haltPollMs: 0, ...rest })
    this.memory = createMemory({ maxCpus: possible, ...rest }, possible)
    for (let cpu = 0; cpu < possible; cpu++) {
      store(this.memory.words, this.memory.cpuPage(cpu) + CPU.callQueue, CLOSED)
    }
    for (const cpu of online) this.#bringUp(cpu)
    for (const kernel of this.kernels) kernel.cpu.localIrqEnable()
  }

  /** A thread has become a CPU that waits to be woken: it is present, and nothing else. */
  powerOn(cpu: number): Kernel {
    // Each kernel has its own view of the memory, as each thread has: a spy in one is in no other.
    const memory = MachineMemory.attach(this.memory.buffer)
    const platform = {
      ...nodePlatform(THREAD_SCRIPT),
      warn: (message: string) => void this.warnings.push(message),
      // A test that fails leaves calls behind; they must not keep the process alive.
      keepAlive: () => undefined,
    }
    store(memory.words, memory.cpuPage(cpu) + CPU.incarnation, ++this.#incarnation)
    memory.setCpu(HEADER.presentMask, cpu)
    raiseApicMapGeneration(memory)
    const kernel = new Kernel(memory, cpu, platform, new FunctionTable(), this.#shared)
    this.#byCpu.set(cpu, kernel)
    this.#controls.set(cpu, new Control(kernel, this.#shared))
    this.kernels = [...this.#byCpu.values()]
    return kernel
  }

  #bringUp(cpu: number): Kernel {
    const kernel = this.powerOn(cpu)
    setupLocalApic(kernel.cpu, kernel.senders.driver)
    kernel.cpu.core.state = CPU_STATE.running
    kernel.driver.open()
    this.memory.setCpu(HEADER.onlineMask, cpu)
    return kernel
  }

  /** A CPU's thread is gone, without a word; CPU `by` buries it. */
  kill(cpu: number, by: number): void {
    this.#byCpu.delete(cpu)
    this.kernels = [...this.#byCpu.values()]
    bury(this.kernel(by).cpu, cpu)
    this.memory.clearCpu(HEADER.presentMask, cpu)
    raiseApicMapGeneration(this.memory)
  }

  /** A new thread becomes a CPU that was killed. */
  revive(cpu: number): Kernel {
    const kernel = this.#bringUp(cpu)
    kernel.cpu.localIrqEnable()
    return kernel
  }

  /** The kernel of an online CPU. */
  kernel(cpu: number): Kernel {
    const kernel = this.#byCpu.get(cpu)
    assert.ok(kernel !== undefined, `the bench has no CPU ${cpu}`)
    return kernel
  }

  /** The control of an online CPU. */
  control(cpu: number): Control {
    return this.#controls.get(cpu)!
  }

  /** A safepoint of one CPU in application code. */
  poll(cpu: number): void {
    this.kernel(cpu).cpu.core.deliverInterrupts('safepoint')
  }

  /** Shares a function on every CPU; each gets its own, made by `make` for its kernel. */
  share(name: string, make: (kernel: Kernel) => (info: never) => unknown): void {
    for (const kernel of this.kernels) kernel.functions.register(name, make(kernel))
  }

  /** Puts a handler behind a vector of every CPU. Gives how often each has run it. */
  countIrqs(vector: number): number[] {
    const counts: number[] = []
    for (const kernel of this.kernels) {
      counts[kernel.cpu.id] = 0
      kernel.idt.requestIrq(vector, 'counted', () => void counts[kernel.cpu.id]!++)
    }
    return counts
  }

  /** Lets every CPU look, in turn and again, until the promise settles; gives how it did. */
  async drive<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const note = (): void => void (settled = true)
    promise.then(note, note)
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      for (const { cpu } of this.kernels) this.poll(cpu.id)
      await nextTurn()
      if (settled) return promise
    }
    assert.fail('nobody completes what is awaited')
  }

  /** The words of memory that `run` changes, as indices. */
  wordsChangedBy(run: () => void): number[] {
    const before = Int32Array.from(this.memory.words)
    run()
    const changed: number[] = []
    for (const [at, word] of this.memory.words.entries()) if (before[at] !== word) changed.push(at)
    return changed
  }
}

/** The driver of Linux 2.6.11 of a bench that was made with it. */
export function tlbStateOf({ tlb }: Kernel): TlbStateDriver {
  assert.ok(tlb instanceof TlbStateDriver, "the bench is made with tlbDriver: 'tlbstate'")
  return tlb
}

/** Runs `body` once per APIC driver. */
export function forEachApicDriver(
  body: (apic: (typeof APIC_DRIVERS)[number]) => void,
  except: readonly string[] = [],
): void {
  for (const apic of APIC_DRIVERS) if (!except.includes(apic)) body(apic)
}
