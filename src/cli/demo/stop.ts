/** The end: every other CPU leaves the machine and halts for ever. Linux smp_send_stop. */

import { CpuMask } from '../../index.ts'
import { verify } from '../failure.ts'
import { formatMicroseconds } from '../print.ts'
import { describe, type Step } from './stage.ts'

export const stopStep: Step = {
  title: 'Stop',
  about: 'Each CPU leaves the online mask, disables its local APIC, and halts for ever.',

  async run({ machine, out, others }) {
    const start = performance.now()
    const stopped = await machine.smpSendStop()
    const us = (performance.now() - start) * 1000
    verify(stopped.equals(others), `${describe(stopped)} stopped, not ${describe(others)}`)
    verify(
      machine.onlineMask.equals(CpuMask.of(machine.cpu.id)),
      `online are still ${describe(machine.onlineMask)}`,
    )
    out.verified(`smpSendStop() has stopped ${describe(stopped)} in ${formatMicroseconds(us)} µs`)
  },
}
