/** One CPU and the whole machine: standing still, stopping, flushing. */

import { CpuMask } from '../../../src/base/cpu-mask.ts'
import { HEADER } from '../../../src/hardware/layout.ts'
import type { Kernel } from '../../../src/kernel/kernel.ts'
import type { Access } from '../../../src/testing.ts'
import { go, now } from '../../support/explorer-machine.ts'
import { bus, expect, FIRST, scenario, type KernelScenario } from '../scenario.ts'

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
]
