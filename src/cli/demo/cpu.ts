/** What every CPU of the demonstration can be asked: handlers, hooks and reads for the steps. */

import { sharedFunction, thisMachine } from '../../index.ts'
import { primesBetween } from '../tasks.ts'
import { Board } from './board.ts'
import { ROUNDS } from './limits.ts'

let board: Board

/** Gives the calling CPU the shared memory of the demonstration. */
export const openBoard = sharedFunction('demo.openBoard', (buffer: SharedArrayBuffer): void => {
  board = new Board(buffer)
})

/** Which function to call on which CPU. */
export interface DirectCall {
  readonly target: number
  readonly functionName: string
  readonly info: unknown
}

/** How such a call went. */
export interface DirectCallReport {
  readonly ok: boolean
  readonly result: unknown
  readonly us: number
  readonly icr: Icr
}

/** Does nothing, and answers. */
export const ping = sharedFunction('demo.ping', (_info: unknown): void => undefined)

let directCall: DirectCallReport | undefined

/**
 * Makes this CPU call another one as soon as CPU 0 stands still. Begun in a new turn of the event
 * loop, because this function itself runs in an interrupt, where nobody may wait.
 */
export const startDirectCall = sharedFunction('demo.startDirectCall', (call: DirectCall): void => {
  const begin = (): void => {
    if (board.bootCpuStandsStill) void makeDirectCall(call)
    else setImmediate(begin)
  }
  setImmediate(begin)
})

async function makeDirectCall({ target, functionName, info }: DirectCall): Promise<void> {
  const machine = thisMachine()
  // The path is warm then, as it is for the other calls.
  for (let round = 0; round < ROUNDS; round++) {
    await machine.smpCallFunctionSingle(target, ping)
  }
  const start = performance.now()
  const outcome = await machine.smpCallFunctionSingle(target, functionName, info).then(
    (result: unknown) => ({ ok: true, result }),
    (error: unknown) => ({ ok: false, result: String(error) }),
  )
  directCall = { ...outcome, us: (performance.now() - start) * 1000, icr: readIcr() }
  board.directCallOver = true
}

/** How the call that {@link startDirectCall} began has ended. */
export const takeDirectCallReport = sharedFunction(
  'demo.takeDirectCallReport',
  (): DirectCallReport | undefined => directCall,
)

/** What the scheduler of one CPU has done. */
export interface ScheduleReport {
  readonly runs: number
  /** What the last task gave. */
  readonly result: number
  /** Whether every task ran on the way back: no handler on the stack, interrupts on. */
  readonly outsideInterrupts: boolean
}

let schedule: ScheduleReport = { runs: 0, result: 0, outsideInterrupts: true }

/** Puts a scheduler behind this CPU's rescheduling: it runs what CPU 0 has queued. */
export const installScheduler = sharedFunction('demo.installScheduler', (): void => {
  const machine = thisMachine()
  const { cpu } = machine
  machine.onSchedule(() => {
    const outside = !cpu.inInterrupt && !cpu.irqsDisabled
    board.stamp(cpu.id)
    const task = board.takeTask(cpu.id)
    schedule = {
      runs: schedule.runs + 1,
      result: primesBetween(2, task),
      outsideInterrupts: schedule.outsideInterrupts && outside,
    }
  })
})

/** What this CPU's scheduler has done so far. */
export const readSchedule = sharedFunction('demo.readSchedule', (): ScheduleReport => schedule)

/** The name of the address space that all CPUs translate through. */
export const SPACE = 'demo'

/** Reads memory through this CPU's translation of a page. */
export const readPage = sharedFunction('demo.readPage', (page: number): number => {
  const space = thisMachine().addressSpace(SPACE)
  return board.readFrame(space.translate(page, (address) => board.frameOf(address)))
})

/** Puts a handler behind a vector of this CPU that notes when it ran. */
export const handleVector = sharedFunction('demo.handleVector', (vector: number): void => {
  const machine = thisMachine()
  machine.requestIrq(vector, 'demonstration', () => board.stamp(machine.cpu.id))
})

/** Sends a vector from this CPU to all others; gives what its command register holds then. */
export const sendToOthers = sharedFunction(
  'demo.sendToOthers',
  (vector: number): { readonly icr: Icr; readonly start: bigint } => {
    const start = process.hrtime.bigint()
    thisMachine().sendIpiAllButSelf(vector)
    return { icr: readIcr(), start }
  },
)

/** The interrupt command register as the APIC page shows it. */
export interface Icr {
  /** Vector, delivery mode, destination mode and shorthand: offset 300h. */
  readonly low: number
  /** The destination, in its top byte: offset 310h. */
  readonly high: number
}

/** What the calling CPU has sent last, read from its local APIC. */
export function readIcr(): Icr {
  const { apic } = thisMachine().cpu
  return { low: apic.read(0x300), high: apic.read(0x310) }
}

/** Computes for so many milliseconds, with safepoints. */
export const occupy = sharedFunction('demo.occupy', (ms: number): void => {
  const { cpu } = thisMachine()
  for (const until = performance.now() + ms; performance.now() < until;) cpu.poll()
})

/** Says when it runs, on the clock of all threads. */
export const arrive = sharedFunction('demo.arrive', () => String(process.hrtime.bigint()))
