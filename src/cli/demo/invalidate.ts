/** The third kind of interrupt: no CPU goes on with a translation that has changed. Linux flush_tlb_page. */

import { verify } from '../failure.ts'
import { formatMicroseconds } from '../print.ts'
import { readIcr, readPage, SPACE } from './cpu.ts'
import { describe, type Stage, type Step } from './stage.ts'

const PAGE = 5
const OLD_FRAME = 2
const NEW_FRAME = 3
/** What stands in the two frames: the price of something, say. */
const OLD_VALUE = 100
const NEW_VALUE = 120

export const invalidateStep: Step = {
  title: 'Invalidate TLB: vector 0xfd',
  about: 'One page table for all. Each CPU holds its own copy of what it has translated.',

  async run(stage) {
    const { machine, board, out, all, others } = stage
    const space = machine.addressSpace(SPACE)
    board.writeFrame(OLD_FRAME, OLD_VALUE)
    board.writeFrame(NEW_FRAME, NEW_VALUE)
    board.mapPage(PAGE, OLD_FRAME)
    await expectEverywhere(stage, OLD_VALUE, 'before the change')
    await stage.warmUp(() => space.flushTlbPage(PAGE + 1))
    out.verified(
      `${describe(all)} read ${OLD_VALUE} through page ${PAGE} and hold the translation`,
    )

    board.mapPage(PAGE, NEW_FRAME)
    await expectEverywhere(stage, OLD_VALUE, 'from the held copy, before the flush')
    out.verified(
      `CPU 0 maps the page to ${NEW_VALUE}; all still read the stale ${OLD_VALUE} from their copies`,
    )

    stage.header()
    const { received, us } = await stage.observe('TLB', () => space.flushTlbPage(PAGE))
    stage.show(
      {
        from: machine.cpu.id,
        sent: `flushTlbPage(${PAGE})`,
        icr: readIcr(),
        received,
        us: formatMicroseconds(us),
      },
      others,
    )
    await expectEverywhere(stage, NEW_VALUE, 'after the flush')
    out.verified(`the flush has returned, and all read ${NEW_VALUE}`)
  },
}

async function expectEverywhere(stage: Stage, expected: number, when: string): Promise<void> {
  const values = await stage.machine.onEachCpu(readPage, PAGE)
  for (const [cpu, value] of values) {
    verify(value === expected, `CPU ${cpu} read ${value} ${when}, and not ${expected}`)
  }
}
