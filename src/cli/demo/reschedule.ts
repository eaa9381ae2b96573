/** The second kind of interrupt: make a CPU look at its run queue. Linux smp_send_reschedule. */

import { setTimeout as sleep } from 'node:timers/promises'
import { CpuMask } from '../../index.ts'
import { verify } from '../failure.ts'
import { primesBetween } from '../tasks.ts'
import { installScheduler, readIcr, readSchedule } from './cpu.ts'
import type { Stage, Step } from './stage.ts'

/** What each CPU finds on its queue: count the primes below this number. */
const TASK = 20_000
/** How long a reschedule interrupt may take until it is counted, in milliseconds. */
const ARRIVAL_MS = 2000

export const rescheduleStep: Step = {
  title: 'Reschedule: vector 0xfc',
  about: 'The handler only acknowledges. The scheduler runs on the way back, if the CPU was marked.',

  async run(stage) {
    const { machine, out, others } = stage
    await machine.smpCallFunction(installScheduler)
    stage.header()
    for (const cpu of others) await interruptOnly(stage, cpu)
    const idle = await machine.smpCallFunction(readSchedule)
    for (const [cpu, { runs }] of idle) {
      verify(runs === 0, `the scheduler of CPU ${cpu} ran ${runs} times though nothing was marked`)
    }
    out.verified('nothing was marked, so nobody rescheduled')

    for (const cpu of others) await queueAndReschedule(stage, cpu)
    const reports = await machine.smpCallFunction(readSchedule)
    const expected = primesBetween(2, TASK)
    for (const [cpu, { runs, result, outsideInterrupts }] of reports) {
      verify(runs === 1, `the scheduler of CPU ${cpu} ran ${runs} times, and once was expected`)
      verify(result === expected, `CPU ${cpu} counted ${result} primes, there are ${expected}`)
      verify(outsideInterrupts, `the scheduler of CPU ${cpu} ran inside the interrupt`)
    }
    out.verified(
      `${reports.size} of ${reports.size} rescheduled once, after the handler had returned, ` +
        `and ran the task: ${expected} primes`,
    )
  },
}

/** A reschedule interrupt alone: received, acknowledged, and that is all. */
async function interruptOnly(stage: Stage, cpu: number): Promise<void> {
  const { machine } = stage
  const count = (): number => machine.interrupts().count('RES', cpu)
  const before = count()
  const deadline = performance.now() + ARRIVAL_MS
  const { received } = await stage.observe('RES', async () => {
    machine.smpSendReschedule(cpu)
    while (count() === before && performance.now() < deadline) await sleep(1)
  })
  stage.show(
    {
      from: machine.cpu.id,
      sent: `smpSendReschedule(${cpu})`,
      icr: readIcr(),
      received,
      us: '',
    },
    CpuMask.of(cpu),
  )
}

/** Work on the queue, the mark, and the interrupt: `resched_task`. */
async function queueAndReschedule(stage: Stage, cpu: number): Promise<void> {
  const { machine, board } = stage
  const target = CpuMask.of(cpu)
  board.clearStamps()
  board.queueTask(cpu, TASK)
  const start = process.hrtime.bigint()
  const { received } = await stage.observe('RES', async () => {
    machine.reschedTask(cpu)
    await stage.arrival(target, 'reschedTask')
  })
  stage.show(
    {
      from: machine.cpu.id,
      sent: `reschedTask(${cpu})`,
      icr: readIcr(),
      received,
      us: stage.spread(target, start),
    },
    target,
  )
}
