/**
 * What every CPU does right now: by NMI, so that neither a loop nor interrupts that are off keep it to
 * themselves. Linux `lib/nmi_backtrace.c`.
 *
 *    asker                                        target
 *      its bit in the target's stackAskers
 *      NMI                    ~~~~~~~~~~~~~~~~>   NMI handler:  report, by the port of the two
 *      takes the report from  <----------------                 takes the bit back, wakes the asker
 *      the port
 *
 * Each asker has a bit of its own, so any number may ask at once, and none that dies leaves a lock.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import { ATTENTION, ATTENTION_VECTOR_SHIFT, CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { load } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'
import { CPU_STATE_NAMES } from './diagnose.ts'
import type { FunctionTable } from './functions.ts'
import type { Nmi, NmiRegs } from './nmi.ts'
import { wake } from './robust-lock.ts'
import type { Values } from './values.ts'
import type { Waits } from './wait.ts'

/**
 * What a CPU does: `running` JavaScript; `blocked` in a wait, this library's or another; `idle`, with
 * nothing on its stack; `stopped`, `dead`, `offline` or `booting`, as its state says; `silent`, if it
 * did not answer.
 */
export type CpuActivity =
  'running' | 'blocked' | 'idle' | 'stopped' | 'dead' | 'offline' | 'booting' | 'silent'

/** One CPU, as it was when it answered, or as it looks to others if it did not. */
export interface CpuBacktrace {
  readonly cpu: number
  readonly activity: CpuActivity
  /** The state that it shows to senders: `running`, `polling`, `parked`, `halted` and so on. */
  readonly state: string
  readonly irqsDisabled: boolean
  /** The vector whose handler it is in, 0 for none. */
  readonly vector: number
  /** The shared function that it runs for a call. */
  readonly functionName: string | undefined
  /** Vectors that are requested and not yet taken, ascending. */
  readonly pending: readonly number[]
  /** The JavaScript that it runs, a line per frame, newest first; empty if none or unknown. */
  readonly stack: string
}

/** What all CPUs do. Prints as one report. */
export class Backtrace {
  /** By number, ascending. */
  readonly cpus: readonly CpuBacktrace[]

  constructor(cpus: readonly CpuBacktrace[]) {
    this.cpus = cpus
  }

  /** One CPU, if it was asked for. */
  cpu(cpu: number): CpuBacktrace | undefined {
    return this.cpus.find((each) => each.cpu === cpu)
  }

  toString(): string {
    return this.cpus.map(printBacktrace).join('\n')
  }
}

/** One CPU for somebody who has asked from outside the process. */
export interface SeenCpu {
  readonly cpu: number
  readonly activity: CpuActivity
  /** As a `Backtrace` prints it. */
  readonly text: string
}

/** How to ask. */
export interface BacktraceOptions {
  /**
   * How long to wait for those who do not answer, in milliseconds. Default 3,000: V8 may look only
   * after two seconds.
   */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 3000
/** After how long a CPU is asked once more. */
const AGAIN_MS = 100
/** Frames of a stack, at most. */
const FRAMES_MAX = 64
/** The newest frame of a thread that sleeps: in the engine's own wait, in `halt`, in kernel/wait.ts. */
const WAITING = /^\s*at (?:\w+\.wait \(<anonymous>\)|(?:Core\.hlt|(?:Waits\.)?#(?:sleep|spin))\b)/
/** The idle loop at work, and what it may have begun to run there. */
const IDLING = /#on(?:Rung|Ring|Turn)\b/
const WORKING = /\b(?:schedule|doSoftirq)\b/
/** How pending vectors are read: word n of IRR stands 4n words behind it, of posted ones n. */
const APIC_IRR = 0x200 / 4

/** What the parts of a backtrace stand on. */
interface BacktraceParts {
  readonly cpu: Cpu
  readonly nmi: Nmi
  readonly values: Values
  readonly waits: Waits
  readonly functions: FunctionTable
}

/** Backtraces of one CPU: asked for, and answered. */
export class NmiBacktrace {
  readonly #cpu: Cpu
  readonly #nmi: Nmi
  readonly #values: Values
  readonly #waits: Waits
  readonly #functions: FunctionTable
  /** One at a time from here: the answers to two would be one. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(parts: BacktraceParts) {
    this.#cpu = parts.cpu
    this.#nmi = parts.nmi
    this.#values = parts.values
    this.#waits = parts.waits
    this.#functions = parts.functions
    this.#nmi.register('nmiBacktrace', (regs) => this.#answer(regs))
  }

  /** `trigger_all_cpu_backtrace`, or of a mask. Rejects with `IPI_WOULD_DEADLOCK` in a handler. */
  trigger(mask: CpuMask, { timeoutMs = TIMEOUT_MS }: BacktraceOptions): Promise<Backtrace> {
    this.#waits.checkMayWait('backtrace', false)
    const stack = this.#cpu.platform.forced?.captureStack(FRAMES_MAX) ?? ''
    const result = this.#last.then(() => this.#run(mask, stack, timeoutMs))
    this.#last = result.catch(() => undefined)
    return result
  }

  /**
   * What a debugger is told that has stopped this thread from outside the process and found `stack` in
   * it: this CPU first, then the others that have or had a thread, as they look to it. Asks none of
   * them, for all may be busy. Reads only; any context, and in the middle of anything.
   */
  look(stack: string): SeenCpu[] {
    const { id, memory, irqsDisabled } = this.#cpu
    const seen = [this.#judge(stack, !irqsDisabled, true)]
    for (let cpu = 0; cpu < memory.cpuCount; cpu++) {
      const isThere = this.#isPresent(cpu) || this.#stateOf(cpu) === CPU_STATE.dead
      if (cpu !== id && isThere) seen.push(this.#lookAt(cpu))
    }
    return seen.map((report) => ({
      cpu: report.cpu,
      activity: report.activity,
      text: printBacktrace(report),
    }))
  }

  async #run(mask: CpuMask, ownStack: string, timeoutMs: number): Promise<Backtrace> {
    const { id, platform } = this.#cpu
    const asked = new Set<number>()
    for (const cpu of mask) if (cpu !== id && this.#mayAsk(cpu)) asked.add(cpu)
    for (const cpu of asked) {
      // The answer to an earlier question, whose asker had given up.
      this.#take(cpu)
      this.#cpu.memory.setCpu(this.#askers(cpu), id)
    }
    const deadline = platform.now() + timeoutMs
    const isLate = (cpu: number): boolean => this.#isLate(cpu)
    for (let again = false; ; again = true) {
      const late = [...asked].filter(isLate)
      const rest = deadline - platform.now()
      if (late.length === 0 || (again && rest <= 0)) break
      // Once more although it was asked for: a thread may have died on the way to having it entered.
      this.#nmi.send(CpuMask.from(late), again)
      await this.#waits
        .until(
          () => !late.some(isLate),
          Math.max(0, Math.min(rest, AGAIN_MS)),
          () => undefined,
        )
        .catch(() => undefined)
    }
    return new Backtrace(
      [...mask].map((cpu) => {
        if (cpu === id) return this.#report(ownStack, 'running', !this.#cpu.irqsDisabled)
        const answer = asked.has(cpu) && !isLate(cpu) ? this.#take(cpu) : undefined
        return answer ?? this.#lookAt(cpu)
      }),
    )
  }

  #askers(cpu: number): number {
    return this.#cpu.memory.cpuPage(cpu) + CPU.stackAskers
  }

  /** Whoever takes NMIs. */
  #mayAsk(cpu: number): boolean {
    return this.#cpu.isOnline(cpu) || this.#stateOf(cpu) === CPU_STATE.stopped
  }

  #isPresent(cpu: number): boolean {
    return this.#cpu.memory.testCpu(HEADER.presentMask, cpu)
  }

  #stateOf(cpu: number): number {
    return this.#cpu.memory.readCpu(cpu, CPU.state)
  }

  #isLate(cpu: number): boolean {
    return this.#mayAsk(cpu) && this.#cpu.memory.testCpu(this.#askers(cpu), this.#cpu.id)
  }

  /** The report of a CPU, if it has sent one. */
  #take(cpu: number): CpuBacktrace | undefined {
    const flags = this.#cpu.localIrqSave()
    try {
      return this.#values.takeReport(cpu) as CpuBacktrace | undefined
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  /** What can be seen of a CPU that was not asked, or did not answer. */
  #lookAt(cpu: number): CpuBacktrace {
    const state = this.#stateOf(cpu)
    let activity: CpuActivity = 'silent'
    if (state === CPU_STATE.dead) activity = 'dead'
    else if (state === CPU_STATE.stopped) activity = 'stopped'
    else if (!this.#cpu.isOnline(cpu)) activity = this.#isPresent(cpu) ? 'booting' : 'offline'
    return this.#readPage(cpu, activity, '', this.#cpu.memory.readCpu(cpu, CPU.interruptsOff) !== 0)
  }

  /** In an NMI: answers whoever has asked. The bits go back last: then the answers are there. */
  #answer({ interruptFlag }: NmiRegs): void {
    const { memory, id } = this.#cpu
    const askers = memory.readMask(this.#askers(id))
    if (askers.isEmpty) return
    const report = this.#reportSelf(interruptFlag)
    for (const asker of askers) {
      this.#values.sendReport(asker, report)
      memory.clearCpu(this.#askers(id), asker)
      wake(this.#cpu, asker)
    }
  }

  #reportSelf(interruptFlag: boolean): CpuBacktrace {
    const { core, platform } = this.#cpu
    if (this.#isIdle()) return this.#report('', 'idle', interruptFlag)
    const stack = platform.forced?.captureStack(FRAMES_MAX) ?? ''
    return this.#judge(stack, interruptFlag, core.path === 'forced')
  }

  /** What this CPU does, by the stack that was found in it, `isForced` if in the middle of anything. */
  #judge(stack: string, interruptFlag: boolean, isForced: boolean): CpuBacktrace {
    const { core } = this.#cpu
    const report = this.#report(stack, 'running', interruptFlag)
    if (core.state === CPU_STATE.stopped) return { ...report, activity: 'stopped' }
    if (core.state === CPU_STATE.halted || WAITING.test(stack)) {
      return { ...report, activity: 'blocked' }
    }
    // Entered in the middle of the idle loop, which was looking for this very NMI, or of nothing at all.
    const isHandling = report.vector !== 0 || report.functionName !== undefined
    const isLooking = !isHandling && IDLING.test(stack) && !WORKING.test(stack)
    if (isLooking || (isForced && stack === '')) {
      return { ...report, activity: 'idle', stack: '' }
    }
    return report
  }

  /** Whether the idle loop has found the NMI by itself. */
  #isIdle(): boolean {
    const { core, memory, page } = this.#cpu
    return core.path === 'eventLoop' && memory.words[page + CPU.currentVector] === 0
  }

  #report(stack: string, activity: CpuActivity, interruptFlag: boolean): CpuBacktrace {
    return this.#readPage(this.#cpu.id, activity, stack, !interruptFlag)
  }

  #readPage(
    cpu: number,
    activity: CpuActivity,
    stack: string,
    irqsDisabled: boolean,
  ): CpuBacktrace {
    const { memory } = this.#cpu
    const read = (field: number): number => memory.readCpu(cpu, field)
    const isRunning = read(CPU.currentRequest) !== 0
    return {
      cpu,
      activity,
      state: CPU_STATE_NAMES[read(CPU.state)] ?? 'unknown',
      irqsDisabled,
      vector: read(CPU.currentVector),
      functionName: isRunning
        ? this.#functions.describe(read(CPU.currentFunction), read(CPU.currentFunction + 1))
        : undefined,
      pending: pendingVectors(memory, cpu),
      stack,
    }
  }
}

/** The vectors that are requested or posted: a CPU that does not look has them posted. */
function pendingVectors(memory: MachineMemory, cpu: number): number[] {
  const attention = memory.readCpu(cpu, CPU.attention)
  const single = (attention & ATTENTION.single) !== 0 ? attention >>> ATTENTION_VECTOR_SHIFT : -1
  const vectors: number[] = []
  for (let vector = 0; vector < 256; vector++) {
    const word = vector >>> 5
    const requested = load(memory.words, memory.apicPage(cpu) + APIC_IRR + word * 4)
    const posted = memory.readCpu(cpu, CPU.pir + word)
    const isSet = (((requested | posted) >>> (vector & 31)) & 1) !== 0
    if (isSet || vector === single) vectors.push(vector)
  }
  return vectors
}

/** A CPU in words, and what it runs. */
function printBacktrace(report: CpuBacktrace): string {
  return [describeBacktrace(report), report.stack].filter((text) => text !== '').join('\n')
}

/** One CPU in a line, without its stack. */
export function describeBacktrace(report: CpuBacktrace): string {
  const { cpu, activity, state, irqsDisabled, vector, functionName, pending } = report
  const facts = [
    `CPU ${cpu}: ${activity}${activity === 'silent' ? ', did not answer' : ''}`,
    activity === state || activity === 'idle' ? '' : `state ${state}`,
    irqsDisabled ? 'interrupts off' : '',
    vector === 0 ? '' : `in vector ${vector}`,
    functionName === undefined ? '' : `running "${functionName}"`,
    pending.length === 0 ? '' : `pending ${pending.join(' ')}`,
  ]
  return facts.filter((fact) => fact !== '').join(', ')
}
