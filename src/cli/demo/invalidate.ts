/** The third kind of interrupt: no CPU goes on with a stale translation. Linux flush_tlb_page. */

import { verify } from '../failure.ts'
import { formatMicroseconds } from '../print.ts'
import { readIcr, readPage, SPACE, type Icr } from './cpu.ts'
import { ROUNDS } from './limits.ts'
import { describe, median, type Stage, type Step } from './stage.ts'

const PAGE = 5
/** The frames that the page leads to in turn, and what stands in them: two prices, say. */
const FRAMES = [2, 3] as const
const VALUES = [100, 120] as const

export const invalidateStep: Step = {
  title: 'Invalidate TLB: vector 0xfd',
  about: `One page table for all, and each CPU its own copies of it. ${ROUNDS} times; µs: median.`,

  async run(stage) {
    const { machine, board, out, all, others } = stage
    for (const [index, frame] of FRAMES.entries()) board.writeFrame(frame, VALUES[index]!)
    board.mapPage(PAGE, FRAMES[0])
    await expectEverywhere(stage, VALUES[0], 'before any change')
    stage.header()
    const times: number[] = []
    const { value, received } = await stage.observe('TLB', async () => {
      let icr: Icr = { low: 0, high: 0 }
      for (let round = 1; round <= ROUNDS; round++) {
        const flush = await changeAndFlush(stage, round)
        times.push(flush.us)
        icr = flush.icr
      }
      return icr
    })
    const sent = `flushTlbPage(${PAGE})`
    const us = formatMicroseconds(median(times))
    stage.show({ from: machine.cpu.id, sent, icr: value, received, us }, others)
    out.verified(`${describe(all)} read ${VALUES[0]} through page ${PAGE}, and hold a copy`)
    out.verified(`CPU 0 maps the page to ${VALUES[1]}: all go on reading the stale ${VALUES[0]}`)
    out.verified(`flushTlbPage(${PAGE}) has returned: all read ${VALUES[1]}`)
  },
}

/** Changes the mapping, sees that the old one is still in use, flushes, sees that it is not. */
async function changeAndFlush(
  stage: Stage,
  round: number,
): Promise<{ readonly us: number; readonly icr: Icr }> {
  const { machine, board } = stage
  const before = (round - 1) % FRAMES.length
  const after = round % FRAMES.length
  board.mapPage(PAGE, FRAMES[after]!)
  await expectEverywhere(stage, VALUES[before]!, 'from the copy it holds, before the flush')
  const start = performance.now()
  await machine.addressSpace(SPACE).flushTlbPage(PAGE)
  const flush = { us: (performance.now() - start) * 1000, icr: readIcr() }
  await expectEverywhere(stage, VALUES[after]!, 'after the flush')
  return flush
}

async function expectEverywhere(stage: Stage, expected: number, when: string): Promise<void> {
  for (const [cpu, value] of await stage.machine.onEachCpu(readPage, PAGE)) {
    verify(value === expected, `CPU ${cpu} read ${value} ${when}, and not ${expected}`)
  }
}
