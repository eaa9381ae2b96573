/** The local APIC, and what an interrupt may come between. */

import { go } from '../../support/explorer-machine.ts'
import {
  counting,
  expect,
  FIRST,
  halts,
  scenario,
  sends,
  type KernelScenario,
} from '../scenario.ts'

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
]
