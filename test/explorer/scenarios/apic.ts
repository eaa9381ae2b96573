/** The local APIC, and what an interrupt may come between. */

import { CpuMask } from '../../../src/base/cpu-mask.ts'
import { CPU } from '../../../src/hardware/layout.ts'
import { go, now } from '../../support/explorer-machine.ts'
import {
  counting,
  expect,
  FIRST,
  halts,
  idle,
  SAFE,
  scenario,
  SECOND,
  sends,
  type KernelScenario,
} from '../scenario.ts'

/** Beside FIRST. */
const SAME_CLASS = 0x61

export const APIC: readonly KernelScenario[] = [
  scenario(['E-03', 'E-36'], 'lowers its priority while a request arrives', 3, 2, ({ kernels }) => {
    const counts = counting(kernels[1]!, FIRST)
    return {
      programs: [
        sends(1, FIRST),
        function* ({ cpu }) {
          cpu.apic.taskPriority = 15
          yield* go(cpu.core.deliverInterrupts('safepoint'))
          cpu.apic.taskPriority = 0
          yield* halts(() => counts.get(FIRST) === 1)(kernels[1]!)
        },
      ],
      atEnd: () => expect(counts.get(FIRST) === 1, () => `taken ${counts.get(FIRST)}`),
    }
  }),

  ...(['flat', 'bigsmp', 'x2apic'] as const).map((apic) =>
    scenario(
      ['E-34'],
      `a handler sends in the middle of a send (${apic})`,
      0,
      3,
      ({ kernels }) => {
        const [sender, second, third] = kernels
        const atSecond = counting(second!, FIRST, SECOND)
        const atThird = counting(third!, FIRST, SECOND)
        now(
          sender!.idt.requestIrq(
            FIRST,
            'sends',
            function* () {
              yield* go(sender!.senders.sendIpiCpu(2, SECOND))
            },
            SAFE,
          ),
        )
        const all = (): string => [...atSecond.values(), ...atThird.values()].join()
        return {
          programs: [sends(1, FIRST), sends(0, FIRST), idle],
          atEnd: () => expect(all() === '1,0,0,1', () => `taken ${all()}`),
        }
      },
      { apic, interruptible: [0] },
    ),
  ),

  ...(['flat', 'bigsmp'] as const).map((apic) =>
    scenario(
      ['E-35', 'E-36'],
      `an NMI comes in the middle of a send (${apic})`,
      0,
      3,
      ({ kernels }) => {
        const [sender, second, third] = kernels
        const atSecond = counting(second!, FIRST)
        const atThird = counting(third!, FIRST)
        const nmis = (): number => sender!.cpu.memory.words[sender!.cpu.page + CPU.eventCounts]!
        return {
          programs: [
            function* ({ cpu, senders }) {
              yield* go(senders.sendIpiMask(CpuMask.of(1, 2), FIRST))
              yield* go(cpu.poll())
            },
            function* ({ cpu: { descriptors } }) {
              yield* go(descriptors[0]!.postNmi())
            },
            idle,
          ],
          atEnd: () =>
            expect(
              atSecond.get(FIRST) === 1 && atThird.get(FIRST) === 1 && nmis() === 1,
              () => `taken ${atSecond.get(FIRST)}, ${atThird.get(FIRST)}; NMIs ${nmis()}`,
            ),
        }
      },
      { apic, interruptible: [0] },
    ),
  ),

  scenario(
    ['E-39'],
    'a handler looks up while the same vector comes again and again',
    1,
    2,
    ({ kernels }) => {
      const { cpu, idt } = kernels[1]!
      let depth = 0
      let deepest = 0
      let runs = 0
      now(
        idt.requestIrq(
          FIRST,
          'looks up',
          function* () {
            runs++
            deepest = Math.max(deepest, ++depth)
            // Acknowledged already; the next of its kind may be requested and must wait.
            yield* go(cpu.poll())
            depth--
          },
          SAFE,
        ),
      )
      return {
        programs: [
          function* ({ senders }) {
            for (let i = 0; i < 3; i++) yield* go(senders.sendIpiCpu(1, FIRST))
          },
          idle,
        ],
        invariant: () => expect(deepest <= 1, () => `it nests ${deepest} deep`),
        atEnd: () => expect(runs >= 1 && runs <= 3, () => `ran ${runs} times`),
      }
    },
    { interruptible: [1] },
  ),

  scenario(
    ['E-36'],
    'an NMI comes in the middle of a handler, and a vector of the same class',
    1,
    2,
    ({ kernels }) => {
      const { cpu, idt } = kernels[1]!
      const counts = counting(kernels[1]!, FIRST)
      let wrong: string | undefined
      now(
        idt.setIntrGate('inService', SAME_CLASS, function* () {
          yield* go(cpu.poll())
          if (!cpu.apic.isr(SAME_CLASS)) wrong = 'somebody else has ended its interrupt'
          yield* go(cpu.apic.eoi())
        }),
      )
      return {
        programs: [
          function* ({ senders, cpu: { descriptors } }) {
            yield* go(senders.sendIpiCpu(1, SAME_CLASS))
            yield* go(descriptors[1]!.postNmi())
            yield* go(senders.sendIpiCpu(1, FIRST))
          },
          idle,
        ],
        invariant: () => wrong,
        atEnd: () => expect(counts.get(FIRST) === 1, () => `taken ${counts.get(FIRST)}`),
      }
    },
  ),
]
