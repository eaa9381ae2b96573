/** The four senders, with a vector and handlers of our own. Linux send_IPI_all and siblings. */

import { CpuMask } from '../../index.ts'
import { verify } from '../failure.ts'
import { formatMicroseconds } from '../print.ts'
import { handleVector, readIcr, sendToOthers, type Icr } from './cpu.ts'
import { ROUNDS } from './limits.ts'
import { describe, median, type Stage, type Step } from './stage.ts'

/** One sending: by whom, how, and whom it must reach. */
interface Sending {
  readonly from: number
  readonly sent: string
  readonly expected: CpuMask
  /** Sends; gives the command register, and when that was. */
  readonly send: () => Promise<{ readonly icr: Icr; readonly start: bigint }>
}

export const sendersStep: Step = {
  title: 'The four senders, with a vector of our own',
  about: `Each ${ROUNDS} times; µs until the first and the last handler ran are medians.`,

  async run(stage) {
    const { machine, out, all } = stage
    const vector = machine.allocVector()
    await machine.onEachCpu(handleVector, vector)
    out.indented(
      `allocVector() gave 0x${vector.toString(16)}; ${describe(all)} have a handler behind it`,
    )
    stage.header()
    const sendings = [...fromHere(stage, vector), ...fromAnother(stage, vector)]
    for (const sending of sendings) await sendAndWatch(stage, vector, sending)
    const expected = sendings.reduce((sum, sending) => sum + ROUNDS * sending.expected.size, 0)
    const total = machine.interrupts().total(String(vector))
    verify(total === expected, `${total} interrupts were handled, ${expected} were sent`)
    out.verified(`${expected} interrupts sent, ${total} handled: none lost, none twice`)
  },
}

/** The four, from CPU 0. */
function fromHere({ machine, all, others }: Stage, vector: number): Sending[] {
  const self = machine.cpu.id
  const here = (sent: string, expected: CpuMask, act: () => void): Sending => ({
    from: self,
    sent,
    expected,
    send: () => {
      const start = process.hrtime.bigint()
      act()
      return Promise.resolve({ icr: readIcr(), start })
    },
  })
  const name = `0x${vector.toString(16)}`
  // Two of them: this one, and the one that is farthest from it.
  const some = CpuMask.of(self, Math.max(...all))
  return [
    here(`sendIpiAll(${name})`, all, () => machine.sendIpiAll(vector)),
    here(`sendIpiAllButSelf(${name})`, others, () => machine.sendIpiAllButSelf(vector)),
    here(`sendIpiSelf(${name})`, CpuMask.of(self), () => machine.sendIpiSelf(vector)),
    here(`sendIpiMask(mask, ${name})`, some, () => machine.sendIpiMask(some, vector)),
  ]
}

/** Any CPU may send: here the first of the worker threads, which interrupts CPU 0 too. */
function fromAnother({ machine, all, others }: Stage, vector: number): Sending[] {
  const from = others.first()
  return [
    {
      from,
      sent: `sendIpiAllButSelf(0x${vector.toString(16)})`,
      expected: all.without(from),
      send: () => machine.smpCallFunctionSingle(from, sendToOthers, vector),
    },
  ]
}

async function sendAndWatch(stage: Stage, vector: number, sending: Sending): Promise<void> {
  const { from, sent, expected, send } = sending
  const first: number[] = []
  const last: number[] = []
  const { value, received } = await stage.observe(String(vector), async () => {
    let icr: Icr = { low: 0, high: 0 }
    for (let round = 0; round < ROUNDS; round++) {
      stage.board.clearStamps()
      const command = await send()
      await stage.arrival(expected, sent)
      const delays = stage.delays(expected, command.start)
      first.push(delays[0]!)
      last.push(delays.at(-1)!)
      icr = command.icr
    }
    return icr
  })
  const times = [...new Set([first, last].map((us) => formatMicroseconds(median(us))))]
  stage.show({ from, sent, icr: value, received, us: times.join('-') }, expected)
}
