/**
 * What a scenario of the real code is, and the words in which one is told. Waits never end by themselves
 * unless its clock passes, so that a wake-up which would only be late counts as lost.
 */

import type { IpiError } from '../../src/base/errors.ts'
import type { MachineOptions } from '../../src/kernel/config.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { Bus, type Access, type Program, type Scenario } from '../../src/testing.ts'
import {
  BlankMemory,
  ExploredMachine,
  go,
  now,
  type KernelProgram,
  type Rooms,
} from '../support/explorer-machine.ts'

/** A scenario of the real code, for whichever copy of it. */
export interface KernelScenario {
  /** Rows of docs/races.md. */
  readonly ids: readonly string[]
  readonly name: string
  /** Preemptions that `npm test` allows: as many as take seconds. */
  readonly preemptions: number
  readonly cpus: number
  /** Whether interrupts may be forced in: then `npm test` forces them in at each method, too. */
  readonly forced: boolean
  readonly on: (rooms: Rooms) => Scenario
}

/** What a scenario does, once the machine stands. */
export interface Story {
  /** One per CPU. */
  readonly programs: readonly KernelProgram[]
  /** Threads beside them. */
  readonly threads?: readonly Program[]
  readonly invariant?: () => string | undefined
  readonly atEnd?: () => string | undefined
  readonly onDeath?: (cpu: number) => void
}

/** What may happen to whom: see `Scenario` and `MachineShape`. */
export interface Fates {
  readonly mortal?: readonly number[]
  readonly interruptible?: readonly number[]
  readonly interruptsMax?: number
  readonly earlyTimeouts?: number
  readonly down?: readonly number[]
  readonly clock?: boolean
}

/** Makes a scenario of a story, told anew for each schedule. */
export function scenario(
  ids: readonly string[],
  name: string,
  preemptions: number,
  cpus: number,
  tell: (machine: ExploredMachine) => Story,
  fates: MachineOptions & Fates = {},
): KernelScenario {
  const { mortal, interruptible, interruptsMax, earlyTimeouts, ...more } = fates
  const { down = [], clock = false, ...options } = more
  return {
    ids,
    name,
    preemptions,
    cpus,
    forced: interruptible !== undefined,
    on: (rooms) => {
      let machine: ExploredMachine | undefined
      const blank = new BlankMemory(rooms, cpus, options)
      return {
        name: `${ids.join(', ')} ${name}`,
        timeouts: clock,
        mortal: mortal ?? [],
        interruptible: interruptible ?? [],
        interruptsMax: interruptsMax ?? 1,
        earlyTimeouts: earlyTimeouts ?? 0,
        nameOf: (at) => machine!.nameOf(at),
        setup: (_memory, watch) => {
          machine = new ExploredMachine(rooms, blank, watch, { cpus, options, down, clock })
          const { programs, threads, ...rest } = tell(machine)
          return machine.setup(programs, rest, threads)
        },
      }
    },
  }
}

/** For accesses that are none of the kernel's. Each stands until its turn comes: one for each. */
export const bus = (): Bus => new Bus()

/** Two vectors of applications. */
export const FIRST = 0x60
export const SECOND = 0xa5
/** A word of a CPU's page that nobody uses. */
export const WORK = 600

/** Of handlers that a forced entry may run. */
export const SAFE = { interruptSafe: true } as const

/** Counts what a CPU takes of each vector. */
export function counting({ idt }: Kernel, ...vectors: number[]): Map<number, number> {
  const counts = new Map(vectors.map((vector) => [vector, 0]))
  for (const vector of vectors) {
    const count = (): void => void counts.set(vector, counts.get(vector)! + 1)
    now(idt.requestIrq(vector, 'counted', count, SAFE))
  }
  return counts
}

/** Gives the sentence unless something holds. */
export const expect = (holds: boolean, otherwise: () => string): string | undefined =>
  holds ? undefined : otherwise()

/** Does nothing but idle. */
export const idle: KernelProgram = function* () {}

/** Sends a vector to a CPU. */
export const sends =
  (target: number, vector: number): KernelProgram =>
  (kernel) =>
    go(kernel.senders.sendIpiCpu(target, vector))

/** What the shared function answers: never what it was asked, which may still lie in the slot. */
export const answerTo = (info: unknown): string => `${String(info)} done`

/** Shares a function with all CPUs; gives what it was called with, in order. */
export function sharing(machine: ExploredMachine): unknown[] {
  const calls: unknown[] = []
  for (const kernel of machine.kernels) share(kernel, calls)
  return calls
}

/** Shares it with one CPU more. */
export function share({ functions }: Kernel, calls: unknown[]): void {
  const f = (info: unknown): string => {
    calls.push(info)
    return answerTo(info)
  }
  now(functions.register('f', f))
}

/** Halts until something holds, as one should: nothing comes between the look and the halt. */
export const halts = (until: () => boolean): KernelProgram =>
  function* ({ cpu }) {
    yield* go(cpu.localIrqDisable())
    while (!until()) {
      yield* go(cpu.safeHalt())
      yield* go(cpu.localIrqDisable())
    }
    yield* go(cpu.localIrqEnable())
  }

/** A call in progress. */
export type KernelCall = Generator<Access, unknown, number>

/** How a call ends: what it gave, or the code of its error. */
export function* outcome(call: () => KernelCall): Generator<Access, string, number> {
  try {
    return `answer ${String(yield* call())}`
  } catch (error) {
    const { code } = error as IpiError
    if (code === undefined) throw error
    return code
  }
}

/** The end of a CPU that may die: in a word, for those who wait until it is known. */
export interface Fate {
  /** The last act of its program, if it lives. */
  readonly ends: () => Generator<Access, void, number>
  /** Spins until it has ended or is dead; then buries it, if it is. Gives which, as `DIED` or `ENDED`. */
  readonly known: (by: Kernel) => Generator<Access, number, number>
  readonly onDeath: () => void
  /** Whether it had died before it ended. */
  readonly hasDied: () => boolean
}

/** What becomes of a CPU. */
export const DIED = 1
const ENDED = 2

/** Watches over a CPU that may die; CPU 0 has the word. One that dies after its end is buried later. */
export function fateOf(machine: ExploredMachine, cpu: number): Fate {
  const at = machine.kernels[0]!.cpu.page + WORK
  let died = false
  return {
    ends: function* () {
      yield bus().store(at, ENDED)
    },
    known: function* (by) {
      let fate = 0
      while ((fate = yield bus().load(at)) === 0) yield* go(by.cpu.cpuRelax())
      if (fate === DIED) yield* machine.bury(by, cpu)
      return fate
    },
    onDeath: () => {
      died = machine.words[at] === 0
      if (died) machine.write(at, DIED)
      else machine.buryLater(cpu)
    },
    hasDied: () => died,
  }
}

/** An address space that some CPUs use. */
export function spaceOf(machine: ExploredMachine, ...cpus: number[]): number {
  let mm = 0
  for (const { tlb, cpu } of machine.kernels) {
    mm = now(tlb.findMm('space'))
    if (cpus.includes(cpu.id)) now(tlb.switchMm(mm))
  }
  return mm
}
