/**
 * The judge of a chaos run: a thread that is no CPU, and sees in the ledger what takes too long. It
 * accuses by name; and if CPU 0 does not end the process then, because it hangs itself, the judge
 * prints what is known and does it.
 */

import { writeSync } from 'node:fs'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { AT, clockMs, cpusOf, CPUS_MAX, LANES, Ledger, OPERATIONS } from './chaos-ledger.ts'
import { describeMemory } from './machine-scene.ts'

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

/** What chaos has asked of every CPU. */
export function describeAsked(memory: MachineMemory, book: Ledger): string {
  const asked = Array.from(
    { length: memory.cpuCount },
    (_, cpu) =>
      `CPU ${cpu}: life ${book.get(AT.lives + cpu)}, order ${book.get(AT.order + cpu)}, ` +
      `working ${book.get(AT.working + cpu)}`,
  )
  return asked.join('\n')
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
    const what = book.accusations()
    if (memory !== undefined) what.push(describeMemory(memory), describeAsked(memory, book))
    writeSync(2, `chaos: seed ${seed}: CPU 0 hangs too.\n${what.join('\n')}\n`)
    process.kill(process.pid, 'SIGKILL')
  }, LOOK_MS)
}

if (!isMainThread && (workerData as Partial<JudgeData> | null)?.limitMs !== undefined) {
  judge(workerData as JudgeData)
}
