/** The first kind of interrupt: run a function elsewhere and know it ran. Linux `kernel/smp.c`. */

import { CpuMask } from '../../index.ts'
import { verify } from '../failure.ts'
import { formatMicroseconds } from '../print.ts'
import { ping, readIcr, startDirectCall, takeDirectCallReport } from './cpu.ts'
import { ROUNDS } from './limits.ts'
import { median, type Stage, type Step } from './stage.ts'

/** How long CPU 0 stands still for a call between two others, in milliseconds. */
const STILL_MS = 10_000
/** How long it sleeps between two looks. */
const LOOK_MS = 1

export const callFunctionStep: Step = {
  title: 'Call a function: vector 0xfb',
  about: `The call returns when the function has run everywhere. ping: median of ${ROUNDS}.`,

  async run(stage) {
    stage.header()
    await callNothing(stage)
    await callOthers(stage)
    await callEach(stage)
    await callBetweenOthers(stage)
  },
}

/** What a call costs by itself. */
async function callNothing(stage: Stage): Promise<void> {
  const { machine, others } = stage
  const times: number[] = []
  const { received } = await stage.observe('CAL', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const start = performance.now()
      await machine.smpCallFunction(ping, stage.work.others.info)
      times.push((performance.now() - start) * 1000)
    }
  })
  stage.show(
    {
      from: machine.cpu.id,
      sent: 'smpCallFunction(ping)',
      icr: readIcr(),
      received,
      us: formatMicroseconds(median(times)),
    },
    others,
  )
}

async function callOthers(stage: Stage): Promise<void> {
  const { machine, out, others } = stage
  const { name, info, judge } = stage.work.others
  const { value, received, us } = await stage.observe('CAL', () =>
    machine.smpCallFunction<unknown, unknown>(name, info),
  )
  verify(value.size === others.size, `smpCallFunction brought ${value.size} results`)
  stage.show(
    {
      from: machine.cpu.id,
      sent: `smpCallFunction(${name})`,
      icr: readIcr(),
      received,
      us: formatMicroseconds(us),
    },
    others,
  )
  for (const line of judge(value)) out.verified(line)
}

async function callEach(stage: Stage): Promise<void> {
  const { machine, out, others, all } = stage
  const { name, info, judge } = stage.work.each
  const { value, received, us } = await stage.observe('CAL', () =>
    machine.onEachCpu<unknown, unknown>(name, info),
  )
  verify(value.size === all.size, `onEachCpu brought ${value.size} results for ${all.size} CPUs`)
  stage.show(
    {
      from: machine.cpu.id,
      sent: `onEachCpu(${name})`,
      icr: readIcr(),
      received,
      us: formatMicroseconds(us),
    },
    // It runs the function itself, and needs no interrupt for that.
    others,
  )
  for (const line of judge(value)) out.verified(line)
}

/** A call from CPU 1 to CPU 2 that CPU 0 cannot have passed on: it stands still meanwhile. */
async function callBetweenOthers(stage: Stage): Promise<void> {
  const { machine, board, out } = stage
  const [from, target] = stage.others
  if (from === undefined || target === undefined) {
    out.indented('A call between two worker threads needs a third CPU: --cpus 3')
    return
  }
  const { name, info, judge } = stage.work.single
  await machine.smpCallFunctionSingle(from, startDirectCall, { target, functionName: name, info })
  const { received } = await stage.observe('CAL', () => standStill(stage))
  verify(board.directCallOver, `CPU ${from} did not reach CPU ${target} within ${STILL_MS} ms`)
  const report = await machine.smpCallFunctionSingle(from, takeDirectCallReport)
  verify(report !== undefined, `CPU ${from} has nothing to report`)
  verify(report.ok, `the call of CPU ${from} to CPU ${target} failed: ${String(report.result)}`)
  stage.show(
    {
      from,
      sent: `smpCallFunctionSingle(${target}, …)`,
      icr: report.icr,
      received,
      us: formatMicroseconds(report.us),
    },
    CpuMask.of(target),
  )
  for (const line of judge(new Map([[target, report.result]]))) out.verified(line)
  out.verified(`CPU ${from} reached CPU ${target} directly: CPU 0 stood still, interrupts off`)
}

function standStill({ machine, board }: Stage): void {
  const { cpu } = machine
  const deadline = performance.now() + STILL_MS
  const flags = cpu.localIrqSave()
  board.bootCpuStandsStill = true
  while (!board.directCallOver && performance.now() < deadline) cpu.halt(LOOK_MS)
  board.bootCpuStandsStill = false
  cpu.localIrqRestore(flags)
}
