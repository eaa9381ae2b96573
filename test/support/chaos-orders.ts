/** What the agent of chaos orders a thread to do to itself, and where it does it. */

import type { Machine } from '../../src/index.ts'
import { AT, type Ledger } from './chaos-ledger.ts'

/** Orders, as they stand in the ledger; each is obeyed once. */
export const ORDER = {
  exit: 1,
  exitInHandler: 2,
  throwOut: 3,
  stallTask: 4,
  stallHandler: 5,
  stallInterruptsOff: 6,
} as const

/** The code that `process.exit` gets. */
const EXIT_CODE = 3

/** Computes for so long: no safepoint, no event loop. */
export function stall(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

/** In a task: obeys what is meant for one. */
export async function obeyInTask(book: Ledger, { cpu }: Machine): Promise<void> {
  const order = book.get(AT.order + cpu.id)
  if (order === 0 || order === ORDER.exitInHandler || order === ORDER.stallHandler) return
  if (!book.take(AT.order + cpu.id, order)) return
  const ms = book.get(AT.orderMs + cpu.id)
  if (order === ORDER.exit) {
    book.count('exited')
    process.exit(EXIT_CODE)
  } else if (order === ORDER.throwOut) {
    book.count('threw out')
    // Not from here, where it would only reject a promise. This lane works no more.
    setImmediate(() => {
      throw new Error('chaos: thrown out')
    })
    await new Promise(() => undefined)
  } else if (order === ORDER.stallTask) {
    book.count(cpu.id === 0 ? 'stalls of CPU 0' : 'stalls in task')
    stall(ms)
  } else {
    book.count('stalls with interrupts off')
    const flags = cpu.localIrqSave()
    stall(ms)
    cpu.localIrqRestore(flags)
  }
}

/** In a handler: obeys what is meant for one. */
export function obeyInHandler(book: Ledger, cpu: number): void {
  const order = book.get(AT.order + cpu)
  if (order !== ORDER.exitInHandler && order !== ORDER.stallHandler) return
  if (!book.take(AT.order + cpu, order)) return
  if (order === ORDER.exitInHandler) {
    book.count('exited in handler')
    process.exit(EXIT_CODE)
  }
  book.count('stalls in handler')
  stall(book.get(AT.orderMs + cpu))
}
