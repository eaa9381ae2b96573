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
import {
  ATTENTION,
  ATTENTION_VECTOR_SHIFT,
  CPU,
  CPU_STATE,
  FORCED,
  HEADER,
} from '../hardware/layout.ts'
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

/** CPUs that were asked what they do, and have until a deadline to say so. */
export interface Question {
  readonly asked: CpuMask
  /** What they have said, by CPU; undefined for one that has gone without a word. */
  readonly answers: Map<number, CpuBacktrace | undefined>
  readonly deadline: number
  /** When those who are late are asked once more. */
  again: number
}

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
  /** Those that are out. What a CPU says is the answer to all that have asked it. */
  readonly #questions = new Set<Question>()

  constructor(parts: BacktraceParts) {
    this.#cpu = parts.cpu
    this.#nmi = parts.nmi
    this.#values = parts.values
    this.#waits = parts.waits
    this.#functions = parts.functions
    this.#nmi.register('interprocessor.nmiBacktrace', (regs) => this.#answer(regs))
  }

  /** `trigger_all_cpu_backtrace`, or of a mask. Rejects with `IPI_WOULD_DEADLOCK` in a handler. */
  async trigger(
    mask: CpuMask,
    { timeoutMs = TIMEOUT_MS }: BacktraceOptions = {},
  ): Promise<Backtrace> {
    const cpu = this.#cpu
    const waits = this.#waits
    waits.checkMayWait('backtrace', false)
    const { id } = cpu
    const ownStack = cpu.platform.forced?.captureStack(FRAMES_MAX) ?? ''
    const question = this.ask(mask, timeoutMs)
    await this.#answered(question)
    const answers = this.end(question)
    return new Backtrace(
      [...mask].map((each) =>
        each === id
          ? this.#report(ownStack, 'running', !cpu.irqsDisabled)
          : (answers.get(each) ?? this.#lookAt(each)),
      ),
    )
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

  /**
   * Asks the others of a mask, until `end`. Waits for nothing, so that one who is blocked can ask, too,
   * and look now and then.
   */
  ask(mask: CpuMask, timeoutMs: number): Question {
    const { id, memory, platform } = this.#cpu
    const asked = CpuMask.from([...mask].filter((cpu) => cpu !== id && this.#mayAsk(cpu)))
    // The answer to another question, or to one whose asker had given up.
    for (const cpu of asked) if (!this.#isLate(cpu)) this.#collect(cpu)
    const now = platform.now()
    const deadline = now + timeoutMs
    const question = { asked, answers: new Map(), deadline, again: now + AGAIN_MS }
    // Before it is asked: one answer may serve this question and another, and come at once.
    this.#questions.add(question)
    for (const cpu of asked) memory.setCpu(this.#askers(cpu), id)
    this.#nmi.send(asked)
    return question
  }

  /** Whether all have answered, or had their time. Asks late ones again. */
  isAnswered(question: Question): boolean {
    const { asked, answers, deadline } = question
    for (const cpu of asked) if (!answers.has(cpu) && !this.#isLate(cpu)) this.#collect(cpu)
    const late = [...asked].filter((cpu) => !answers.has(cpu))
    const now = this.#cpu.platform.now()
    if (late.length === 0 || now >= deadline) return true
    if (now >= question.again) {
      question.again = now + AGAIN_MS
      // Although it was asked for before: a thread may have died on the way to having it entered.
      this.#nmi.send(CpuMask.from(late), true)
    }
    return false
  }

  /** Ends a question; gives what was answered. */
  end(question: Question): Question['answers'] {
    this.#questions.delete(question)
    return question.answers
  }

  /**
   * Takes what a CPU has said, if it has, for all that have asked. With interrupts off until it is given
   * out: whoever waits for the other question looks in a handler, and would find nothing and no report.
   */
  #collect(cpu: number): void {
    const flags = this.#cpu.localIrqSave()
    try {
      const report = this.#values.takeReport(cpu) as CpuBacktrace | undefined
      for (const { asked, answers } of this.#questions) {
        if (asked.has(cpu) && !answers.has(cpu)) answers.set(cpu, report)
      }
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  /** Resolves once a question is answered, as far as it is. */
  async #answered(question: Question): Promise<void> {
    while (!this.isAnswered(question)) {
      const rest = Math.min(question.deadline, question.again) - this.#cpu.platform.now()
      await this.#waits
        .until(
          () => this.isAnswered(question),
          Math.max(0, rest),
          () => undefined,
        )
        .catch(() => undefined)
    }
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

  #hasLeft(cpu: number): boolean {
    return (this.#cpu.memory.readCpu(cpu, CPU.forced) & FORCED.left) !== 0
  }

  #stateOf(cpu: number): number {
    return this.#cpu.memory.readCpu(cpu, CPU.state)
  }

  #isLate(cpu: number): boolean {
    return this.#mayAsk(cpu) && this.#cpu.memory.testCpu(this.#askers(cpu), this.#cpu.id)
  }

  /** What can be seen of a CPU that was not asked, or did not answer. */
  #lookAt(cpu: number): CpuBacktrace {
    const state = this.#stateOf(cpu)
    let activity: CpuActivity = 'silent'
    if (state === CPU_STATE.dead) activity = this.#hasLeft(cpu) ? 'offline' : 'dead'
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
