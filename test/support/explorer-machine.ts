/**
 * The real kernels of several CPUs as programs of the explorer: instrumented by
 * scripts/instrument.mjs, on one memory, with event loops that are loops.
 */

import type * as controlRoom from '../../src/kernel/control.ts'
import type * as configRoom from '../../src/kernel/config.ts'
import type * as apicSetupRoom from '../../src/kernel/apic-setup.ts'
import type * as deathRoom from '../../src/kernel/death.ts'
import type * as functionsRoom from '../../src/kernel/functions.ts'
import type * as kernelRoom from '../../src/kernel/kernel.ts'
import type * as layoutRoom from '../../src/hardware/layout.ts'
import type * as memoryRoom from '../../src/hardware/machine-memory.ts'
import type * as mtrrRoom from '../../src/kernel/mtrr.ts'
import type * as pageRoom from '../../src/hardware/apic/page.ts'
import type * as requestRoom from '../../src/kernel/request.ts'
import type * as robustLockRoom from '../../src/kernel/robust-lock.ts'
import type * as storeRoom from '../../src/services/store/shared-store.ts'
import type * as secondaryRoom from '../../src/kernel/secondary.ts'
import type * as submissionRoom from '../../src/kernel/sched/submission.ts'
import type * as taskBookRoom from '../../src/kernel/sched/task-book.ts'
import type * as taskRoom from '../../src/kernel/sched/task.ts'
import type * as taskAbortRoom from '../../src/kernel/task-abort.ts'
import type * as taskGuardRoom from '../../src/kernel/task-guard.ts'
import type { LocalApic } from '../../src/hardware/apic/local-apic.ts'
import type { MachineOptions } from '../../src/kernel/config.ts'
import { CpuMask } from '../../src/base/cpu-mask.ts'
import { describe } from '../../src/kernel/kernel.ts'
import type { SharedOptions } from '../../src/kernel/protocol.ts'
import { Bus, type Access, type Program, type Setup, type Watch } from '../../src/testing.ts'
import { nameOfWord } from './explorer-names.ts'
import { unhandledRejection, usePromises } from './explorer-promises.ts'
import { $await, $run, armed, useClock, useWatch, type Clock } from './explorer-runtime.ts'
import { ExploredThread, go } from './explorer-thread.ts'

export { go } from './explorer-thread.ts'

/** What a program of a CPU is: as `Program`, but the accesses come from the kernel. */
export type KernelProgram = (kernel: kernelRoom.Kernel) => Generator<Access, void, number>

/** The instrumented modules: the real code, or a copy with a fault in it. */
export interface Rooms {
  readonly config: typeof configRoom
  readonly control: typeof controlRoom
  readonly apicSetup: typeof apicSetupRoom
  readonly functions: typeof functionsRoom
  readonly kernel: typeof kernelRoom
  readonly layout: typeof layoutRoom
  readonly memory: typeof memoryRoom
  readonly mtrr: typeof mtrrRoom
  readonly death: typeof deathRoom
  readonly page: typeof pageRoom
  readonly request: typeof requestRoom
  readonly robustLock: typeof robustLockRoom
  readonly secondary: typeof secondaryRoom
  readonly submission: typeof submissionRoom
  readonly task: typeof taskRoom
  readonly taskBook: typeof taskBookRoom
  readonly taskAbort: typeof taskAbortRoom
  readonly taskGuard: typeof taskGuardRoom
  readonly store: typeof storeRoom
}

/** Loads them from a folder below `build`. */
export async function loadRooms(folder = 'explored'): Promise<Rooms> {
  const load = (file: string): Promise<never> =>
    import(new URL(`../../${folder}/${file}.js`, import.meta.url).href) as Promise<never>
  return {
    config: await load('kernel/config'),
    control: await load('kernel/control'),
    apicSetup: await load('kernel/apic-setup'),
    functions: await load('kernel/functions'),
    kernel: await load('kernel/kernel'),
    layout: await load('hardware/layout'),
    memory: await load('hardware/machine-memory'),
    mtrr: await load('kernel/mtrr'),
    death: await load('kernel/death'),
    page: await load('hardware/apic/page'),
    request: await load('kernel/request'),
    robustLock: await load('kernel/robust-lock'),
    secondary: await load('kernel/secondary'),
    submission: await load('kernel/sched/submission'),
    task: await load('kernel/sched/task'),
    taskBook: await load('kernel/sched/task-book'),
    taskAbort: await load('kernel/task-abort'),
    taskGuard: await load('kernel/task-guard'),
    store: await load('services/store/shared-store'),
  }
}

/** At once: for preparing and for looking. */
export function now<T>(given: T): T {
  return $run(given) as T
}

/** Awaits in a program: what instrumented code gave is a promise. */
export function* awaits<T>(given: T): Generator<Access, Awaited<T>, number> {
  return yield* $await(yield* go(given))
}

/** How a machine differs from the usual one. */
export interface MachineShape {
  readonly cpus: number
  readonly options: MachineOptions
  /** CPUs that are not up at first. */
  readonly down: readonly number[]
  /** Whether time passes. */
  readonly clock: boolean
}

/** A word of CPU 0's page that nobody uses: the time, in microseconds. */
const CLOCK = 608

/** The memory of a machine before anybody has touched it: used again for each schedule. */
export class BlankMemory {
  readonly #memory: memoryRoom.MachineMemory
  readonly #words: Int32Array

  constructor({ config }: Rooms, cpus: number, options: MachineOptions) {
    const sizes = {
      maxCpus: cpus,
      slotCount: Math.max(cpus, 2),
      slotBytes: 128,
      flushLogSize: 2,
      taskCount: 2,
      ...options,
    }
    this.#memory = now(config.createMemory(sizes, cpus))
    this.#words = this.#memory.words.slice()
  }

  /** As it was. */
  clean(): memoryRoom.MachineMemory {
    this.#memory.words.set(this.#words)
    return this.#memory
  }
}

/** Counts what an APIC's owner takes, and what it ends. */
function countEnds(apic: LocalApic): { taken: number; ended: number } {
  const counts = { taken: 0, ended: 0 }
  const acknowledge = apic.acknowledge.bind(apic)
  const eoi = apic.eoi.bind(apic)
  apic.acknowledge = (vector) => {
    counts.taken++
    return acknowledge(vector)
  }
  apic.eoi = () => {
    counts.ended++
    return eoi()
  }
  return counts
}

/** A machine of the explorer. Made anew for each schedule. */
export class ExploredMachine {
  /** By CPU: of those that live now. */
  readonly kernels: kernelRoom.Kernel[]
  readonly words: Int32Array<SharedArrayBuffer>
  readonly #rooms: Rooms
  readonly #watch: Watch
  readonly #shared: SharedOptions
  readonly #clock: Clock
  readonly #threads: ExploredThread[] = []
  readonly #ends = new Map<kernelRoom.Kernel, { taken: number; ended: number }>()
  /** CPUs that are not up at first. */
  readonly #down: readonly number[]

  constructor(rooms: Rooms, blank: BlankMemory, watch: Watch, shape: MachineShape) {
    const { cpus, options, down } = shape
    const { CPU, CPU_STATE, HEADER } = rooms.layout
    this.#rooms = rooms
    this.#watch = watch
    this.#down = down
    this.#shared = now(
      rooms.config.sharedOptions({
        watchdogMs: Infinity,
        softLockupMs: Infinity,
        hardLockupMs: Infinity,
        haltPollMs: 0,
        ...options,
      }),
    )
    const memory = blank.clean()
    this.words = memory.words
    this.#clock = this.#makeClock(shape.clock, now(memory.cpuPage(0)) + CLOCK)
    armed.clear()
    useWatch(undefined)
    useClock(this.#clock)
    usePromises((job) => this.#threads[watch.running()]!.jobs.push(job))
    for (let cpu = 0; cpu < cpus; cpu++) {
      now(memory.setCpu(HEADER.presentMask, cpu))
      this.words[now(memory.cpuPage(cpu)) + CPU.incarnation] = cpu + 1
    }
    this.kernels = Array.from({ length: cpus }, (_, cpu) => {
      const kernel = this.#makeKernel(cpu)
      if (down.includes(cpu)) {
        this.words[kernel.cpu.page + CPU.callQueue] = rooms.request.CLOSED
        kernel.cpu.core.state = CPU_STATE.waitingForSipi
        return kernel
      }
      now(rooms.apicSetup.setupLocalApic(kernel.cpu, kernel.senders.driver))
      kernel.cpu.core.state = CPU_STATE.running
      now(kernel.driver.open())
      now(kernel.mtrr.init())
      now(memory.setCpu(HEADER.onlineMask, cpu))
      return kernel
    })
    now(rooms.page.raiseApicMapGeneration(memory))
    for (const { cpu } of this.kernels) if (!down.includes(cpu.id)) now(cpu.localIrqEnable())
  }

  #makeKernel(cpu: number, thread = this.#newThread()): kernelRoom.Kernel {
    const { memory, functions, kernel } = this.#rooms
    const made = new kernel.Kernel(
      now(memory.MachineMemory.attach(this.words.buffer)),
      cpu,
      thread.platform(),
      new functions.FunctionTable(),
      this.#shared,
    )
    this.#ends.set(made, countEnds(made.cpu.apic))
    return made
  }

  #newThread(): ExploredThread {
    const thread = new ExploredThread(this.#clock)
    this.#threads.push(thread)
    return thread
  }

  #makeClock(moves: boolean, at: number): Clock {
    const { CPU_STATE } = this.#rooms.layout
    return {
      moves,
      now: () => {
        if (moves) this.#watch.saw(this.words[at]!)
        return this.words[at]! / 1000
      },
      advance: (to) => this.write(at, Math.max(this.words[at]!, Math.ceil(to * 1000))),
      mayRest: () => {
        const kernel = this.kernels[this.#watch.running()]
        // A thread that is buried, or stopped, waits for its end.
        const { state } = kernel?.cpu.core ?? {}
        return state === CPU_STATE.stopped || state === CPU_STATE.dead
      },
    }
  }

  /**
   * The setup of programs, one per CPU; each runs, may await, and then idles under its event loop. Then
   * `threads`: what else there is.
   */
  setup(
    programs: readonly KernelProgram[],
    more: Omit<Setup, 'cpus' | 'memory'> = {},
    threads: readonly Program[] = [],
  ): Setup {
    useWatch(this.#watch)
    const { CPU } = this.#rooms.layout
    return {
      memory: this.words,
      cpus: [
        ...programs.map((program, cpu): Program => {
          const kernel = this.kernels[cpu]!
          const isUp = !this.#down.includes(cpu)
          const main = function* (): Generator<Access, void, number> {
            if (isUp) yield* go(kernel.idle.start())
            yield* program(kernel)
          }
          return () => this.#threads[cpu]!.run(main, this.words, kernel.cpu.page + CPU.doorbell)
        }),
        ...threads,
      ],
      interrupt: (cpu) => () => this.#interrupt(cpu),
      onDeath: (cpu) => this.buryLater(cpu),
      ...more,
      atEnd: () => this.#books() ?? more.atEnd?.(),
    }
  }

  /** A forced entry: whatever may be taken now. */
  *#interrupt(cpu: number): Generator<Access, void, number> {
    yield* go(this.kernels[cpu]!.cpu.core.deliverInterrupts('forced'))
  }

  /** The end of a thread is an event of CPU 0's event loop. One that is about to sleep is rung. */
  buryLater(dead: number): void {
    const [boot] = this.kernels
    this.#threads[0]!.deferred.push(() => this.bury(boot!, dead))
    this.ring(0)
  }

  /** Rings a CPU from outside. */
  ring(cpu: number): void {
    const doorbell = this.kernels[cpu]!.cpu.page + this.#rooms.layout.CPU.doorbell
    this.write(doorbell, this.words[doorbell]! + 1)
    this.#watch.wake(cpu)
  }

  /** Nothing is left over: no attention, no request, nothing in service. */
  #books(): string | undefined {
    const { CPU, CPU_STATE, HEADER, SLOT } = this.#rooms.layout
    const gone = new Set<number>([CPU_STATE.dead, CPU_STATE.stopped, CPU_STATE.waitingForSipi])
    for (const kernel of this.kernels) {
      const { cpu, book } = kernel
      const { memory, id, page } = cpu
      const word = (field: number): number => this.words[page + field]!
      const state = word(CPU.state)
      if (gone.has(state)) continue
      for (const field of ['attention', 'callQueue', 'completions', 'nmiPosts'] as const) {
        if (word(CPU[field]) !== 0) return `${field} of CPU ${id} is ${word(CPU[field])}`
      }
      if (cpu.apic.hasPending) return `an interrupt waits at CPU ${id}`
      if (cpu.apic.ppr !== 0) return `an interrupt of CPU ${id} was not acknowledged`
      const { taken, ended } = this.#ends.get(kernel)!
      if (taken !== ended) return `CPU ${id} took ${taken} interrupts and ended ${ended}`
      for (let i = 0; i < memory.slotCount; i++) {
        const flags = this.words[now(memory.slot(id * memory.slotCount + i)) + SLOT.flags]! & 0xf
        if (flags !== 0) return `slot ${i} of CPU ${id} is in state ${flags}`
      }
      if (book.freeCount !== memory.slotCount) return `CPU ${id} misses slots`
    }
    for (const lock of ['callLock', 'tlbLock', 'controlLock'] as const) {
      const holder = this.kernels[now(this.#rooms.robustLock.holderOf(this.words[HEADER[lock]]!))]
      // What the dead hold is void: the next to want it takes it.
      if (holder === undefined || holder.cpu.core.state === CPU_STATE.dead) continue
      return `CPU ${holder.cpu.id} holds ${lock}`
    }
    const rejection = unhandledRejection()
    return rejection === undefined ? undefined : `nobody has caught ${describe(rejection)}`
  }

  /** Control of the machine from each of its CPUs. */
  controls(): readonly controlRoom.Control[] {
    const { Control } = this.#rooms.control
    return this.kernels.map((kernel) => new Control(kernel, this.#shared))
  }

  /** The memory types of the machine, from each of its CPUs. */
  mtrrs(): readonly mtrrRoom.Mtrr[] {
    const { Mtrr } = this.#rooms.mtrr
    const controls = this.controls()
    return this.kernels.map((kernel, cpu) => new Mtrr(kernel, controls[cpu]!, Infinity))
  }

  /** A shared store in a part of the memory, from each CPU. */
  stores(words: Int32Array<SharedArrayBuffer>): readonly storeRoom.SharedStore[] {
    const { SharedStore } = this.#rooms.store
    return this.kernels.map((kernel) => new SharedStore(kernel, words))
  }

  /** The lock of control operations, from each CPU. */
  locks(): readonly robustLockRoom.RobustLock[] {
    const { layout, robustLock } = this.#rooms
    return this.kernels.map(({ cpu }) => new robustLock.RobustLock(cpu, layout.HEADER.controlLock))
  }

  /** What the executor of a CPU runs its tasks in. */
  guard({ cpu, forced }: kernelRoom.Kernel): taskGuardRoom.TaskGuard {
    return new this.#rooms.taskGuard.TaskGuard(cpu, forced, undefined)
  }

  /** Asks for the end of a task of another CPU, for as long as it runs. */
  abort(kernel: kernelRoom.Kernel, cpu: number, task: number): Promise<string> {
    const forEver = { timeoutMs: Infinity }
    return this.#rooms.taskAbort.abortTask(kernel, cpu, task, forEver, () =>
      Promise.resolve('replaced'),
    )
  }

  /** Writes a word that programs look at, from outside of them. */
  write(at: number, value: number): void {
    const old = this.words[at]!
    this.words[at] = value
    this.#watch.wrote(at, old)
  }

  /** Wakes a CPU that sleeps on a word. */
  wake(cpu: number): void {
    this.#watch.wake(cpu)
  }

  /** Nothing runs on a thread after its program. */
  endThread(cpu: number): void {
    this.#threads[cpu]!.hasLeft = true
  }

  /** Buries a CPU from another, as its thread's end does. */
  *bury(by: kernelRoom.Kernel, dead: number): Generator<Access, void, number> {
    yield* go(this.#rooms.death.bury(by.cpu, dead))
  }

  /** The boot CPU's part of a bring-up, from the callout on. */
  *callOut({ cpu }: kernelRoom.Kernel, target: number): Generator<Access, void, number> {
    const { HEADER } = this.#rooms.layout
    yield* go(cpu.memory.setCpu(HEADER.calloutMask, target))
    yield* go(cpu.descriptors[target]!.ringAlways())
    while (!(yield* go(cpu.memory.testCpu(HEADER.callinMask, target)))) {
      yield new Bus().pause()
    }
    yield* go(cpu.memory.setCpu(HEADER.commencedMask, target))
    yield* go(cpu.descriptors[target]!.ringAlways())
  }

  /** `start_secondary`: a start-up interrupt was honoured. */
  *comeUp(kernel: kernelRoom.Kernel): Generator<Access, void, number> {
    // It puts itself behind the start-up interrupt.
    void new this.#rooms.secondary.Secondary(kernel, [], 1000)
    yield* go(kernel.cpu.handlers.startup(0))
  }

  /**
   * A thread that becomes CPU `cpu` when somebody stores 1 at `at`, after the CPU's first thread has
   * died; with another value it ends. Its kernel is made at once, and then comes up.
   */
  reborn(cpu: number, at: number, prepare: (kernel: kernelRoom.Kernel) => void): Program {
    const { CPU, CPU_STATE, HEADER } = this.#rooms.layout
    const thread = this.#newThread()
    const page = this.kernels[cpu]!.cpu.page
    const main = function* (this: ExploredMachine): Generator<Access, void, number> {
      const bus = new Bus()
      let word = 0
      while ((word = yield bus.load(at)) === 0) yield new Bus().pause()
      thread.hasLeft = word !== 1
      if (thread.hasLeft) return
      this.write(page + CPU.incarnation, this.words[page + CPU.incarnation]! + 100)
      const kernel = this.#makeKernel(cpu, thread)
      this.kernels[cpu] = kernel
      kernel.cpu.core.state = CPU_STATE.waitingForSipi
      now(kernel.cpu.memory.setCpu(HEADER.presentMask, cpu))
      prepare(kernel)
      yield* this.comeUp(kernel)
    }
    return () => thread.run(main.bind(this), this.words, page + CPU.doorbell)
  }

  /** A CPU leaves in good order: the last call that it serves, and the end of its thread. */
  *leave(kernel: kernelRoom.Kernel): Generator<Access, void, number> {
    const secondary = new this.#rooms.secondary.Secondary(kernel, [], 1000)
    yield* go(kernel.cpu.localIrqDisable())
    yield* go(secondary.takeCpuDown())
    yield* this.bury(kernel, kernel.cpu.id)
    this.endThread(kernel.cpu.id)
  }

  /** Lets a CPU submit tasks, as its first pool does. */
  makeBook(kernel: kernelRoom.Kernel): void {
    this.words[this.#rooms.layout.HEADER.schedulerWanted] = 1
    kernel.sched.book = new this.#rooms.taskBook.TaskBook(kernel)
  }

  /** A task for `cpus`, or for all that take tasks. */
  makeTask(
    kernel: kernelRoom.Kernel,
    owner: submissionRoom.TaskOwner,
    info: string,
    priority: number,
    cpus: readonly number[],
    name = 'task',
  ): submissionRoom.Task {
    const record = now(kernel.functions.resolve(name))
    const mask = cpus.length === 0 ? undefined : CpuMask.from(cpus)
    return new this.#rooms.submission.Task(owner, record, info, priority, mask, [])
  }

  /** Where the tasks of a CPU stand. */
  tasksOf(cpu: number): number[] {
    const tasks = new this.#rooms.task.TaskMemory(this.kernels[0]!.cpu.memory)
    const first = now(tasks.firstOf(cpu))
    const { taskCount } = this.kernels[0]!.cpu.memory
    return Array.from({ length: taskCount }, (_, i) => now(tasks.at(first + i)))
  }

  /** Whether a CPU has died or left. */
  isGone(cpu: number): boolean {
    const { CPU, CPU_STATE } = this.#rooms.layout
    const state = this.words[this.kernels[cpu]!.cpu.page + CPU.state]
    return state === CPU_STATE.dead || state === CPU_STATE.offline
  }

  /** The name of a word, for tables. */
  nameOf(at: number): string {
    return nameOfWord(this.kernels[0]!.cpu.memory, at)
  }
}
