/** One CPU and the whole machine: standing still, stopping, flushing. */

import { CpuMask } from '../../../src/base/cpu-mask.ts'
import { CPU_STATE, HEADER } from '../../../src/hardware/layout.ts'
import type { Kernel } from '../../../src/kernel/kernel.ts'
import { vmMask } from '../../../src/kernel/mm.ts'
import type { TlbStateDriver } from '../../../src/kernel/tlbstate.ts'
import type { Access } from '../../../src/testing.ts'
import { awaits, go, now, type KernelProgram } from '../../support/explorer-machine.ts'
import {
  bus,
  expect,
  FIRST,
  idle,
  outcome,
  scenario,
  sharing,
  spaceOf,
  type KernelCall,
  type KernelScenario,
  WORK,
} from '../scenario.ts'

/** A page of the space that is flushed. */
const PAGE = 0x2000

export const CONTROL: readonly KernelScenario[] = [
  scenario(
    ['E-29', 'E-30', 'E-33'],
    'two rounds of standing still, and an interrupt',
    1,
    2,
    (machine) => {
      const both = CpuMask.of(0, 1)
      const inside = [false, false]
      const rounds: string[] = []
      let taken = 0
      let wrong: string | undefined
      now(
        machine.kernels[1]!.idt.requestIrq(FIRST, 'late', () => {
          taken++
          if (inside[1] === true) wrong ??= 'an interrupt was taken while its CPU stood still'
        }),
      )
      function* stand(kernel: Kernel, round: number): Generator<Access, void, number> {
        const { cpu, stop } = kernel
        const flags = yield* go(cpu.localIrqSave())
        inside[cpu.id] = true
        const run = (): void => {
          rounds.push(`${round} on ${cpu.id}`)
          if (!inside.every(Boolean))
            wrong ??= `it ran on CPU ${cpu.id}, and somebody did not stand`
        }
        const outcome = yield* go(stop.participate(round, run))
        if (outcome !== 'ran') wrong ??= `CPU ${cpu.id} ${outcome} in round ${round}`
        inside[cpu.id] = false
        yield* go(cpu.localIrqRestore(flags))
      }
      return {
        programs: [
          function* (kernel) {
            for (const round of [1, 2]) {
              yield* go(kernel.stop.begin(both, both))
              if (round === 1) yield* go(kernel.senders.sendIpiCpu(1, FIRST))
              yield* stand(kernel, round)
            }
          },
          function* (kernel) {
            for (const round of [1, 2]) {
              const at = HEADER.stopState
              while ((yield bus().load(at)) >>> 3 !== round) {
                yield bus().pause()
              }
              yield* stand(kernel, round)
            }
          },
        ],
        invariant: () => wrong,
        atEnd: () =>
          expect(rounds.length === 4 && taken === 1, () => `ran ${rounds.join()}, taken ${taken}`),
      }
    },
  ),

  scenario(['E-47'], 'a task ends while somebody asks for its end', 2, 2, (machine) => {
    const began = machine.kernels[1]!.cpu.page + WORK
    const guard = machine.guard(machine.kernels[1]!)
    let came = ''
    let wasTold = false
    const wereAsked: boolean[] = []
    return {
      programs: [
        function* (kernel) {
          while ((yield bus().load(began)) === 0) yield* go(kernel.cpu.cpuRelax())
          came = yield* outcome(() => awaits(machine.abort(kernel, 1, 7)))
        },
        function* ({ cpu }) {
          yield* go(guard.enter(7))
          yield bus().store(began, 1)
          try {
            yield* go(cpu.poll())
          } catch {
            wasTold = true
          }
          wereAsked.push(yield* go(guard.leave()))
          // The next has its place, and nobody has asked for its end.
          yield* go(guard.enter(8))
          yield* go(cpu.poll())
          wereAsked.push(yield* go(guard.leave()))
        },
      ],
      atEnd: () => {
        const [first, next] = wereAsked
        const expected = wasTold ? 'answer aborted' : 'answer finished'
        return (
          expect(came === expected, () => `${came}, and told ${wasTold}`) ??
          expect(first === true || !wasTold, () => 'told, and nobody has asked') ??
          expect(next === false, () => 'the next was asked as well')
        )
      },
    }
  }),

  scenario(['E-31'], 'two stop the machine at once', 1, 2, (machine) => {
    const controls = machine.controls()
    const standing = new Set<number>()
    const ran: string[] = []
    let wrong: string | undefined
    const stopping: KernelProgram = function* ({ cpu }) {
      const run = function* (): Generator<Access, number, number> {
        if (standing.size > 0) wrong ??= 'two run at once'
        standing.add(cpu.id)
        yield bus().load(0)
        standing.delete(cpu.id)
        return cpu.id
      }
      const stop = (): KernelCall => awaits(controls[cpu.id]!.stopMachine(run, undefined))
      ran.push(`${yield* outcome(stop)} on ${cpu.id}`)
    }
    return {
      programs: [stopping, stopping],
      invariant: () => wrong,
      atEnd: () =>
        expect(ran.toSorted().join() === 'answer 0 on 0,answer 1 on 1', () => ran.join()),
    }
  }),

  scenario(['E-14'], 'two stop each other', 1, 3, (machine) => {
    const controls = machine.controls()
    const ends: string[] = []
    const stopping: KernelProgram = function* ({ cpu }) {
      const stop = (): KernelCall => awaits(controls[cpu.id]!.smpSendStop())
      ends.push(`${yield* outcome(stop)} on ${cpu.id}`)
    }
    const stopped = (): number[] =>
      machine.kernels
        .filter(({ cpu }) => cpu.core.state === CPU_STATE.stopped)
        .map(({ cpu }) => cpu.id)
    return {
      programs: [stopping, stopping, idle],
      atEnd: () =>
        expect(
          stopped().length === 2 &&
            stopped().includes(2) &&
            ends.filter((end) => end.startsWith('answer')).length === 1,
          () => `stopped ${stopped().join()}; ${ends.join()}`,
        ),
    }
  }),

  scenario(
    ['E-14'],
    'stops one that has called it and waits',
    1,
    2,
    (machine) => {
      const [control] = machine.controls()
      sharing(machine)
      let end = ''
      return {
        programs: [
          function* () {
            end = yield* outcome(() => awaits(control!.smpSendStop()))
          },
          function* ({ calls: family }) {
            yield* go(family.singleSync(0, 'f', 7))
          },
        ],
        atEnd: () =>
          expect(
            end === 'answer 1' && machine.kernels[1]!.cpu.core.state === CPU_STATE.stopped,
            () => end,
          ),
      }
    },
    { callDriver: 'callData' },
  ),

  scenario(
    ['E-14'],
    'stops one that takes no interrupts, and says so in time',
    1,
    2,
    (machine) => {
      const [control] = machine.controls()
      const over = machine.kernels[0]!.cpu.page + WORK
      let end = ''
      return {
        programs: [
          function* () {
            end = yield* outcome(() => awaits(control!.smpSendStop()))
            yield bus().store(over, 1)
          },
          function* ({ cpu }) {
            yield* go(cpu.localIrqDisable())
            while ((yield bus().load(over)) === 0) yield bus().pause()
            yield* go(cpu.localIrqEnable())
          },
        ],
        atEnd: () => expect(end === 'IPI_TIMEOUT', () => end),
      }
    },
    { clock: true },
  ),

  scenario(
    ['E-16'],
    'flushes, and is called by whom it waits for',
    1,
    2,
    (machine) => {
      const controls = machine.controls()
      const calls = sharing(machine)
      const ends: string[] = []
      const mm = spaceOf(machine, 0, 1)
      return {
        programs: [
          function* () {
            ends.push(yield* outcome(() => go(controls[0]!.flushSync(mm, 0x1000))))
          },
          function* ({ calls: family }) {
            ends.push(yield* outcome(() => go(family.singleSync(0, 'f', 7))))
          },
        ],
        atEnd: () =>
          expect(
            ends.toSorted().join() === 'answer 7 done,answer undefined' && calls.length === 1,
            () => ends.join(),
          ),
      }
    },
    { callDriver: 'callData', tlbDriver: 'tlbstate' },
  ),

  scenario(
    ['E-16'],
    'two flush one space',
    1,
    2,
    (machine) => {
      const controls = machine.controls()
      const ends: string[] = []
      const mm = spaceOf(machine, 0, 1)
      const flushing: KernelProgram = function* ({ cpu }) {
        ends.push(yield* outcome(() => go(controls[cpu.id]!.flushSync(mm, 0x1000))))
      }
      return {
        programs: [flushing, flushing],
        atEnd: () => expect(ends.join() === 'answer undefined,answer undefined', () => ends.join()),
      }
    },
    { tlbDriver: 'tlbstate' },
  ),

  scenario(
    ['E-17'],
    'switches to another space while the old one is flushed',
    1,
    2,
    (machine) => {
      const [control] = machine.controls()
      const old = spaceOf(machine, 1)
      const { tlb } = machine.kernels[1]!
      const next = now(tlb.findMm('next'))
      const { buffer } = tlb as TlbStateDriver
      now(buffer.fill(PAGE, 'old'))
      const reads = (): boolean => now(tlb.holds(old, PAGE))
      let end = ''
      return {
        programs: [
          function* () {
            end = yield* outcome(() => awaits(control!.flush(old, PAGE)))
            if (reads()) end = 'CPU 1 reads what was flushed'
          },
          function* (kernel) {
            yield* go(kernel.tlb.switchMm(next))
          },
        ],
        // Whose tables a CPU can read, in whose mask it is.
        invariant: () =>
          expect(
            (machine.words[vmMask(old)]! & 2) !== 0 || !reads(),
            () => 'nobody would tell CPU 1',
          ),
        atEnd: () => expect(end === 'answer undefined', () => end),
      }
    },
    { tlbDriver: 'tlbstate' },
  ),
]
