/** Coming up, leaving and dying. */

import type { IpiError } from '../../../src/base/errors.ts'
import { CPU_STATE } from '../../../src/hardware/layout.ts'
import { go } from '../../support/explorer-machine.ts'
import { bus, expect, idle, scenario, sharing, WORK, type KernelScenario } from '../scenario.ts'

export const LIVES: readonly KernelScenario[] = [
  scenario(['E-37'], 'a start-up, an INIT and another start-up', 2, 2, ({ kernels }) => {
    const { cpu } = kernels[1]!
    const starts: string[] = []
    let inits = 0
    cpu.core.initBlocked = false
    cpu.handlers.init = () => void inits++
    cpu.handlers.startup = (vector) => void starts.push(`${vector} after ${inits}`)
    return {
      programs: [
        function* ({ cpu: { descriptors } }) {
          yield* go(descriptors[1]!.postStartup(1))
          yield* go(descriptors[1]!.postInit())
          yield* go(descriptors[1]!.postStartup(2))
        },
        function* ({ cpu: { core } }) {
          core.state = CPU_STATE.waitingForSipi
          while (starts.at(-1) !== '2 after 1') {
            const { doorbell } = core
            if (yield* go(core.deliverInterrupts('eventLoop'))) continue
            yield* go(core.sleep(doorbell, Infinity))
          }
        },
      ],
      invariant: () =>
        expect(!starts.includes('1 after 1'), () => 'it started by what came before the INIT'),
    }
  }),

  scenario(
    ['E-25'],
    'comes up while another asks it',
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      const answers: unknown[] = []
      return {
        programs: [
          function* (kernel) {
            yield* machine.callOut(kernel, 1)
            while (answers.length === 0) {
              try {
                answers.push(yield* go(kernel.calls.singleSync(1, 'f', 7)))
              } catch (error) {
                if ((error as IpiError).code !== 'IPI_CPU_OFFLINE') throw error
                yield bus().pause()
              }
            }
          },
          (kernel) => machine.comeUp(kernel),
        ],
        atEnd: () =>
          expect(answers[0] === 7 && calls.length === 1, () => `answer ${answers.join()}`),
      }
    },
    { down: [1] },
  ),

  scenario(
    ['E-07'],
    'dies while it asks, and is buried; the next to ask is answered',
    0,
    3,
    (machine) => {
      const calls = sharing(machine)
      const over = machine.kernels[0]!.cpu.page + WORK
      return {
        programs: [
          function* (kernel) {
            while ((yield bus().load(over)) === 0) {
              yield bus().pause()
            }
            yield* machine.bury(kernel, 2)
            yield* go(kernel.calls.singleSync(1, 'f', 'living'))
          },
          idle,
          function* ({ calls: family }) {
            yield* go(family.singleSync(1, 'f', 'dead', { wait: false }))
            yield bus().store(over, 1)
          },
        ],
        onDeath: () => machine.write(over, 1),
        atEnd: () => expect(calls.includes('living'), () => `ran for ${calls.join()}`),
      }
    },
    { mortal: [2] },
  ),
]
