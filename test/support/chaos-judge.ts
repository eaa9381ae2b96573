/**
 * The judge of a chaos run: a thread that is no CPU, and sees in the ledger what takes too long. It
 * accuses by name; and if CPU 0 does not end the process then, because it hangs itself, the judge
 * prints what is known and does it.
 */

import { writeSync } from 'node:fs'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { CPU, HEADER } from '../../src/hardware/layout.ts'
import { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { CPU_STATE_NAMES } from '../../src/kernel/diagnose.ts'
import { REQUEST_FLAG, REQUEST_STATE, requestFlags } from '../../src/kernel/request.ts'
import { AT, clockMs, cpusOf, CPUS_MAX, LANES, Ledger, OPERATIONS } from './chaos-ledger.ts'

/** What a judge is given. */
export interface JudgeData {
  readonly ledger: SharedArrayBuffer
  readonly seed: number
  /** How long anything may take. */
  readonly limitMs: number
}

const LOOK_MS = 250
/** How long CPU 0 has, after an accusation, to end the process by itself. */
const GRACE_MS = 30_000

/** What takes longer than it may: who, what, whom it is about, since when. */
export function overdue(book: Ledger, limitMs: number): string[] {
  const late: string[] = []
  const now = clockMs()
  for (let place = 0; place < CPUS_MAX * LANES; place++) {
    const operation = OPERATIONS[book.get(AT.operation + place)]!
    const ms = (now - book.get(AT.since + place)) | 0
    if (operation === 'idle' || ms < limitMs) continue
    const whom = cpusOf(book.get(AT.concerns + place)).join(',')
    late.push(
      `CPU ${Math.floor(place / LANES)}, lane ${place % LANES}: "${operation}" about CPUs ` +
        `{${whom}} has not ended after ${ms} ms`,
    )
  }
  return late
}

/** What every CPU of a machine does, from its shared memory alone. */
export function describeMachine(memory: MachineMemory, book: Ledger): string {
  const lines: string[] = []
  const locks = ['controlLock', 'callLock', 'callData', 'tlbLock', 'stopState'] as const
  lines.push(locks.map((name) => `${name} ${Atomics.load(memory.words, HEADER[name])}`).join(', '))
  const present = memory.readMask(HEADER.presentMask)
  lines.push(`online {${memory.onlineMask.toString()}}, present {${present.toString()}}`)
  for (let cpu = 0; cpu < memory.cpuCount; cpu++) {
    const read = (field: number): number => memory.readCpu(cpu, field)
    const words = ['attention', 'interruptsOff', 'currentRequest', 'currentVector', 'callQueue']
    const fields = words.map((name) => `${name} ${read(CPU[name as keyof typeof CPU])}`)
    lines.push(
      `CPU ${cpu}: ${CPU_STATE_NAMES[read(CPU.state)]}, life ${book.get(AT.lives + cpu)}, ` +
        `order ${book.get(AT.order + cpu)}, working ${book.get(AT.working + cpu)}, ` +
        `${fields.join(', ')}; requests: ${requestsOf(memory, cpu)}`,
    )
  }
  return lines.join('\n')
}

function requestsOf(memory: MachineMemory, cpu: number): string {
  const found: string[] = []
  for (let i = 0; i < memory.slotCount; i++) {
    const flags = requestFlags(memory, cpu * memory.slotCount + i)
    const state = flags & REQUEST_FLAG.stateMask
    if (state === REQUEST_STATE.free) continue
    const name = Object.entries(REQUEST_STATE).find(([, number]) => number === state)?.[0]
    found.push(`${name} to ${(flags & REQUEST_FLAG.targetMask) >>> REQUEST_FLAG.targetShift}`)
  }
  return found.length === 0 ? 'none' : found.slice(0, 8).join(', ')
}

function judge({ ledger, seed, limitMs }: JudgeData): void {
  const book = new Ledger(ledger)
  let memory: MachineMemory | undefined
  let accusedAt: number | undefined
  parentPort!.on('message', (buffer: SharedArrayBuffer) => (memory = MachineMemory.attach(buffer)))
  setInterval(() => {
    const late = accusedAt === undefined ? overdue(book, limitMs) : []
    for (const text of late) book.accuse(text)
    if (book.get(AT.accusations) > 0) accusedAt ??= clockMs()
    if (accusedAt === undefined || clockMs() - accusedAt < GRACE_MS) return
    // Past the streams of Node, which need the main thread.
    const what = [...book.accusations(), memory === undefined ? '' : describeMachine(memory, book)]
    writeSync(2, `chaos: seed ${seed}: CPU 0 hangs too.\n${what.join('\n')}\n`)
    process.kill(process.pid, 'SIGKILL')
  }, LOOK_MS)
}

if (!isMainThread && (workerData as Partial<JudgeData> | null)?.limitMs !== undefined) {
  judge(workerData as JudgeData)
}
