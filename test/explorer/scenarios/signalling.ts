/** Signalling and idling: nobody sleeps while something waits for them. */

import { TIF } from '../../../src/kernel/thread-flags.ts'
import { $peek } from '../../support/explorer-runtime.ts'
import { go, type ExploredMachine, type KernelProgram } from '../../support/explorer-machine.ts'
import {
  bus,
  counting,
  expect,
  FIRST,
  halts,
  idle,
  scenario,
  SECOND,
  sends,
  WORK,
  type KernelScenario,
  type Story,
} from '../scenario.ts'

/** CPU 0 marks CPU 1 for rescheduling, twice, each time with other work; and does something after it. */
const marking =
  (then: KernelProgram) =>
  (machine: ExploredMachine): Story => {
    const { words } = machine
    const [, target] = machine.kernels
    const at = target!.cpu.page + WORK
    const seen: number[] = []
    target!.rescheduler.onSchedule = () => void seen.push($peek(words, at))
    return {
      programs: [
        function* (kernel) {
          for (const work of [1, 2]) {
            words[at] = work
            yield* go(kernel.rescheduler.reschedTask(1))
            yield* then(kernel)
          }
        },
        idle,
      ],
      atEnd: () =>
        expect(
          seen.at(-1) === 2 && (target!.cpu.threadFlags & TIF.NEED_RESCHED) === 0,
          () => `the scheduler has seen ${seen.join()} of 1, 2`,
        ),
    }
  }

/** CPU 0 interrupts CPU 1, which halts. */
const interruptsOneWhoHalts = ({ kernels }: ExploredMachine): Story => {
  const counts = counting(kernels[1]!, FIRST)
  return {
    programs: [sends(1, FIRST), halts(() => counts.get(FIRST) === 1)],
    atEnd: () => expect(counts.get(FIRST) === 1, () => `taken ${counts.get(FIRST)}`),
  }
}

export const SIGNALLING: readonly KernelScenario[] = [
  scenario(['E-01'], 'halts while an interrupt comes', Infinity, 2, interruptsOneWhoHalts),

  scenario(
    ['E-01'],
    'halts while an interrupt comes, which may be forced',
    1,
    2,
    interruptsOneWhoHalts,
    { interruptible: [1] },
  ),

  scenario(['E-01'], 'parks while an interrupt comes', Infinity, 2, ({ kernels }) => {
    const counts = counting(kernels[1]!, FIRST)
    return {
      programs: [sends(1, FIRST), idle],
      atEnd: () => expect(counts.get(FIRST) === 1, () => `taken ${counts.get(FIRST)}`),
    }
  }),

  scenario(['E-02'], 'two post to one who halts, two vectors', 2, 3, ({ kernels }) => {
    const counts = counting(kernels[2]!, FIRST, SECOND)
    const all = (): boolean => counts.get(FIRST) === 1 && counts.get(SECOND) === 1
    return {
      programs: [sends(2, FIRST), sends(2, SECOND), halts(all)],
      atEnd: () => expect(all(), () => `taken ${[...counts.values()].join()}`),
    }
  }),

  scenario(['E-02'], 'two post to one who parks, two vectors', 2, 3, ({ kernels }) => {
    const counts = counting(kernels[2]!, FIRST, SECOND)
    return {
      programs: [sends(2, FIRST), sends(2, SECOND), idle],
      atEnd: () =>
        expect(
          counts.get(FIRST) === 1 && counts.get(SECOND) === 1,
          () => `taken ${[...counts.values()].join()}`,
        ),
    }
  }),

  scenario(
    ['E-05'],
    'is marked for rescheduling again while it reschedules',
    2,
    2,
    marking(function* () {}),
  ),

  scenario(
    ['E-04'],
    'stops polling while it is marked for rescheduling',
    1,
    2,
    // Until the other has gone to sleep, or is about to.
    marking(function* ({ cpu }) {
      yield bus().wait(cpu.page + WORK, 0, true)
    }),
    { clock: true, haltPollMs: 1, earlyTimeouts: 1 },
  ),

  scenario(
    ['E-04'],
    'stops polling while an interrupt comes',
    1,
    2,
    ({ kernels }) => {
      const counts = counting(kernels[1]!, FIRST, SECOND)
      return {
        programs: [
          function* ({ cpu, senders }) {
            yield* go(senders.sendIpiCpu(1, FIRST))
            yield bus().wait(cpu.page + WORK, 0, true)
            yield* go(senders.sendIpiCpu(1, SECOND))
          },
          idle,
        ],
        atEnd: () =>
          expect(
            counts.get(FIRST) === 1 && counts.get(SECOND) === 1,
            () => `taken ${[...counts.values()].join()}`,
          ),
      }
    },
    { clock: true, haltPollMs: 1 },
  ),
]
