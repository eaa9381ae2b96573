/** The interrupt table: all that the steps before have sent, as `/proc/interrupts` shows it. */

import type { Step } from './stage.ts'

export const tableStep: Step = {
  title: 'The interrupt table',
  about: 'Counted by each CPU for itself, read without asking any: machine.interrupts().',

  run({ machine, out }) {
    out.indented(String(machine.interrupts()))
    return Promise.resolve()
  },
}
