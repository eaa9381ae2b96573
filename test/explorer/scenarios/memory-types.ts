/** Memory types: all CPUs change together, whoever comes, dies or does the same meanwhile. */

import { CpuMask } from '../../../src/base/cpu-mask.ts'
import { CPU, CPU_STATE } from '../../../src/hardware/layout.ts'
import { PAGE_BYTES, VARIABLE_COUNT, type MemoryType } from '../../../src/hardware/mtrr.ts'
import type { Kernel } from '../../../src/kernel/kernel.ts'
import type { Mtrr } from '../../../src/kernel/mtrr.ts'
import type { Access } from '../../../src/testing.ts'
import {
  awaits,
  go,
  now,
  type ExploredMachine,
  type KernelProgram,
} from '../../support/explorer-machine.ts'
import {
  bus,
  expect,
  FIRST,
  idle,
  outcome,
  scenario,
  sends,
  WORK,
  type KernelCall,
  type KernelScenario,
} from '../scenario.ts'

/** What changes is told in one slot. */
const ROOMY = { slotBytes: 512 } as const
const MIB = 0x100000

/** What a CPU's registers say, as text. */
function registersOf({ mtrr }: Kernel): string {
  return Array.from({ length: VARIABLE_COUNT }, (_, reg) => mtrr.registers.variable(reg))
    .flatMap((range) => (range ? [`${(range.base * PAGE_BYTES) / MIB} ${range.type}`] : []))
    .join()
}

/** A sentence if CPUs that may run anything differ; `of` says what they apply. */
function disagreement(
  machine: ExploredMachine,
  of: (kernel: Kernel) => string,
): string | undefined {
  const alive = machine.kernels.filter(({ cpu }) => cpu.isOnline(cpu.id) && isAlive(cpu.core.state))
  const running = alive.filter(({ cpu }) => !cpu.irqsDisabled)
  const [first, ...others] = running.map(of)
  if (others.every((each) => each === first)) return undefined
  return `CPU ${running.map(({ cpu }) => cpu.id).join()} apply ${running.map(of).join(' / ')}`
}

const isAlive = (state: number): boolean => state !== CPU_STATE.dead && state !== CPU_STATE.offline

/** The sentence if those who live differ, or have something else than what was wanted. */
function agreement(machine: ExploredMachine, wanted: RegExp): string | undefined {
  const alive = machine.kernels.filter(({ cpu }) => isAlive(cpu.core.state))
  const said = alive.map(registersOf)
  return expect(
    said.every((each) => each === said[0] && wanted.test(each)),
    () => said.join(' / '),
  )
}

/** Adds a range; tells how that ended. */
const adds = (mtrrs: readonly Mtrr[], base: number, ends: string[]): KernelProgram =>
  function* ({ cpu }) {
    const mtrr = mtrrs[cpu.id]!
    const add = (): KernelCall => awaits(mtrr.add(base * MIB, MIB, 'write-combining'))
    ends.push(yield* outcome(add))
  }

/** A round in which CPU 0 is asked to take part. Without the call, which has scenarios of its own. */
function rendezvous(machine: ExploredMachine) {
  const at = machine.kernels[0]!.cpu.page + WORK
  const outcomes = new Map<number, string>()
  const register = { reg: 0, base: (16 * MIB) / PAGE_BYTES, size: 256, type: 1, usage: 1 } as const
  function* takePart({ cpu, mtrr }: Kernel, sequence: number): Generator<Access, void, number> {
    outcomes.set(cpu.id, yield* go(mtrr.ipiHandler({ sequence, register })))
  }
  /** Waits until somebody asks, or has died. */
  function* asked(kernel: Kernel): Generator<Access, void, number> {
    yield bus().wait(at, 0)
    const sequence = yield bus().load(at)
    if (sequence > 0) yield* takePart(kernel, sequence)
  }
  function* asks(
    { rendezvous: round }: Kernel,
    ...cpus: number[]
  ): Generator<Access, number, number> {
    const sequence = yield* go(round.begin(CpuMask.of(...cpus)))
    yield bus().store(at, sequence)
    yield bus().notify(at)
    return sequence
  }
  return {
    outcomes,
    takePart,
    asked,
    asks,
    /** Its state says so at once: one that is found dead late is one that stands still and then dies. */
    onDeath: (cpu: number): void => {
      machine.write(machine.kernels[cpu]!.cpu.page + CPU.state, CPU_STATE.dead)
      if (machine.words[at] === 0) machine.write(at, -1)
      machine.wake(0)
    },
    invariant: () => disagreement(machine, registersOf),
  }
}

const told = (outcomes: ReadonlyMap<number, string>): string =>
  [...outcomes].map(([cpu, outcome]) => `CPU ${cpu}: ${outcome}`).join()

export const MEMORY_TYPES: readonly KernelScenario[] = [
  scenario(
    ['E-11', 'E-29', 'E-30', 'E-33'],
    'adds a range while an interrupt comes',
    1,
    2,
    (machine) => {
      const ends: string[] = []
      const mtrrs = machine.mtrrs()
      let taken = 0
      let wrong: string | undefined
      const registers = machine.kernels.map(registersOf)
      for (const { idt } of machine.kernels) {
        const late = (): void => {
          taken++
          if (registersOf(machine.kernels[1]!) === registersOf(machine.kernels[0]!)) return
          wrong ??= 'an interrupt was taken while its CPU stood'
        }
        now(idt.requestIrq(FIRST, 'late', late))
      }
      return {
        programs: [
          function* (kernel) {
            yield* go(kernel.senders.sendIpiCpu(1, FIRST))
            yield* adds(mtrrs, 16, ends)(kernel)
          },
          sends(0, FIRST),
        ],
        invariant: () => wrong ?? disagreement(machine, registersOf),
        atEnd: () =>
          agreement(machine, /^16 1$/) ??
          expect(
            taken === 2 && ends.join() === 'answer 0' && registers.join() === ',',
            () => `${ends.join()}, taken ${taken}`,
          ),
      }
    },
    ROOMY,
  ),

  scenario(
    ['E-11', 'E-31'],
    'two add a range at once',
    1,
    2,
    (machine) => {
      const ends: string[] = []
      const mtrrs = machine.mtrrs()
      return {
        programs: [adds(mtrrs, 16, ends), adds(mtrrs, 32, ends)],
        invariant: () => disagreement(machine, registersOf),
        atEnd: () =>
          agreement(machine, /^(16 1,32 1|32 1,16 1)$/) ??
          expect(ends.toSorted().join() === 'answer 0,answer 1', () => ends.join()),
      }
    },
    ROOMY,
  ),

  scenario(
    ['E-11'],
    'adds a range before one comes up, and one after',
    0,
    2,
    (machine) => {
      const ends: string[] = []
      const mtrrs = machine.mtrrs()
      return {
        programs: [
          function* (kernel) {
            yield* adds(mtrrs, 16, ends)(kernel)
            yield* machine.callOut(kernel, 1)
            while (!(yield* go(kernel.cpu.isOnline(1)))) yield* go(kernel.cpu.cpuRelax())
            yield* adds(mtrrs, 32, ends)(kernel)
          },
          (kernel) => machine.comeUp(kernel),
        ],
        invariant: () => disagreement(machine, registersOf),
        atEnd: () =>
          agreement(machine, /^16 1,32 1$/) ??
          expect(ends.join() === 'answer 0,answer 1', () => ends.join()),
      }
    },
    { ...ROOMY, down: [1] },
  ),

  ...[0, 1].map((dying) =>
    scenario(
      ['E-11', 'E-29', 'E-30'],
      dying === 0 ? 'dies while it is asked to add a range' : 'adds a range and dies',
      1,
      2,
      (machine) => {
        const { asks, asked, takePart, outcomes, ...rest } = rendezvous(machine)
        return {
          programs: [
            asked,
            function* (kernel) {
              yield* takePart(kernel, yield* asks(kernel, 0, 1))
            },
          ],
          ...rest,
          // All of those who live, or none.
          atEnd: () => {
            const other = outcomes.get(1 - dying)
            const over = dying === 0 || other === 'over'
            return (
              agreement(machine, over ? /^16 1$/ : /^$/) ??
              expect(dying === 1 || other === 'over', () => told(outcomes))
            )
          },
        }
      },
      { mortal: [dying] },
    ),
  ),

  scenario(
    ['E-11', 'E-30'],
    'asks one of two to add a range, and dies before it asks the other',
    1,
    3,
    (machine) => {
      const { asks, asked, takePart: _, outcomes, onDeath, ...rest } = rendezvous(machine)
      return {
        programs: [
          asked,
          idle,
          function* (kernel) {
            yield* asks(kernel, 0, 1, 2)
            onDeath(2)
          },
        ],
        ...rest,
        atEnd: () =>
          agreement(machine, /^$/) ?? expect(outcomes.get(0) === 'aborted', () => told(outcomes)),
      }
    },
  ),

  scenario(
    ['E-11', 'E-33'],
    'keys get another type while they are looked up',
    1,
    2,
    (machine) => {
      const ends: string[] = []
      const mtrrs = machine.mtrrs()
      const mm = now(machine.kernels[0]!.tlb.findMm('space'))
      const typeOf = ({ types }: Kernel): MemoryType => now(types.typeOf(mm, 'cfg:a'))
      const seen: MemoryType[] = []
      const changes: MemoryType[] = []
      now(machine.kernels[0]!.types.declare(mm, 'write-back'))
      const told = (): void => void changes.push(typeOf(machine.kernels[1]!))
      now(machine.kernels[1]!.types.onChange(mm, told))
      return {
        programs: [
          function* () {
            const set = (): KernelCall =>
              awaits(mtrrs[0]!.setType('space', { prefix: 'cfg:' }, 'write-through'))
            ends.push(yield* outcome(set))
          },
          function* ({ cpu, types }) {
            for (let i = 0; i < 3; i++) {
              seen.push(yield* go(types.typeOf(mm, 'cfg:a')))
              yield* go(cpu.poll())
            }
          },
        ],
        invariant: () => disagreement(machine, typeOf),
        atEnd: () => {
          const order = seen.map((type) => ORDER.indexOf(type))
          return expect(
            ends.join() === 'answer ' &&
              changes.join() === 'uncacheable,write-through' &&
              machine.kernels.map(typeOf).join() === 'write-through,write-through' &&
              order.every((place, i) => place >= 0 && (i === 0 || place >= order[i - 1]!)),
            () =>
              `${ends.join()}; saw ${seen.join()}; told of ${changes.join()}; ${machine.kernels.map(typeOf).join()}`,
          )
        },
      }
    },
    ROOMY,
  ),
]

/** The types that a key goes through: old, none, new. */
const ORDER: readonly MemoryType[] = ['write-back', 'uncacheable', 'write-through']
