/** The second kind of interrupt: make a CPU look at its run queue. Linux smp_send_reschedule. */

import { CpuMask } from '../../index.ts'
import { verify } from '../failure.ts'
import { formatMicroseconds } from '../print.ts'
import { primesBetween } from '../tasks.ts'
import { installScheduler, ping, readIcr, readSchedule } from './cpu.ts'
import { ROUNDS } from './limits.ts'
import { median, type Stage, type Step } from './stage.ts'

/** What each CPU finds on its queue: count the primes below this number. */
const TASK = 20_000

export const rescheduleStep: Step = {
  title: 'Reschedule: vector 0xfc',
  about: `A marked CPU reschedules on the way back. Each ${ROUNDS} times; µs: median until then.`,

  async run(stage) {
    const { machine, out, others } = stage
    await machine.smpCallFunction(installScheduler)
    stage.header()
    for (const cpu of others) await interruptOnly(stage, cpu)
    for (const [cpu, { runs }] of await machine.smpCallFunction(readSchedule)) {
      verify(runs === 0, `the scheduler of CPU ${cpu} ran ${runs} times though nothing was marked`)
    }
    out.verified('received and acknowledged: nothing was marked, so nobody rescheduled')

    for (const cpu of others) await queueAndReschedule(stage, cpu)
    const expected = primesBetween(2, TASK)
    for (const [cpu, report] of await machine.smpCallFunction(readSchedule)) {
      const { runs, result, outsideInterrupts } = report
      verify(runs === ROUNDS, `the scheduler of CPU ${cpu} ran ${runs} times, not ${ROUNDS} times`)
      verify(result === expected, `CPU ${cpu} counted ${result} primes, there are ${expected}`)
      verify(outsideInterrupts, `the scheduler of CPU ${cpu} ran inside the interrupt`)
    }
    out.verified(`marked: each ran its task ${ROUNDS} times, after the handler had returned`)
  },
}

/** A reschedule interrupt alone: received, acknowledged, and that is all. */
async function interruptOnly(stage: Stage, cpu: number): Promise<void> {
  const { machine } = stage
  const { value, received } = await stage.observe('RES', async () => {
    machine.smpSendReschedule(cpu)
    const icr = readIcr()
    // Of the same class and lower: this call is served when the reschedule interrupt has been.
    await machine.smpCallFunctionSingle(cpu, ping)
    return icr
  })
  const sent = `smpSendReschedule(${cpu})`
  stage.show({ from: machine.cpu.id, sent, icr: value, received, us: '-' }, CpuMask.of(cpu))
}

/** Work on the queue, the mark, and the interrupt: `resched_task`. */
async function queueAndReschedule(stage: Stage, cpu: number): Promise<void> {
  const { machine, board } = stage
  const target = CpuMask.of(cpu)
  const times: number[] = []
  const { received } = await stage.observe('RES', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      board.clearStamps()
      board.queueTask(cpu, TASK)
      const start = process.hrtime.bigint()
      machine.reschedTask(cpu)
      await stage.arrival(target, 'reschedTask')
      times.push(...stage.delays(target, start))
    }
  })
  stage.show(
    {
      from: machine.cpu.id,
      sent: `reschedTask(${cpu})`,
      icr: readIcr(),
      received,
      us: formatMicroseconds(median(times)),
    },
    target,
  )
}
