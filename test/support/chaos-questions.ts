/**
 * The questions that CPUs under chaos ask each other. The answer is computed from the question and
 * from who answers, so whoever asked knows what is right. Who was asked, who ran it, and who may not
 * run it any more stands in the ledger, by the ticket of the call.
 */

import { sharedFunction, thisMachine } from '../../src/index.ts'
import { AT, ledger, type Ledger } from './chaos-ledger.ts'
import { obeyInHandler, stall } from './chaos-orders.ts'
import type { Dice } from './random.ts'

export interface Question {
  readonly ticket: number
  readonly epoch: number
  readonly n: number
  /** Comes back as it is: by slot or by port, as its size has it. */
  readonly luggage?: unknown
  readonly throws?: boolean
  /** How long the handler stays. */
  readonly stayMs?: number
}

/** What a CPU answers. */
export function replyOf(n: number, cpu: number): number {
  return Math.imul(n ^ (cpu + 1), 0x9e3779b1) ^ (n >>> 7)
}

/** What every call runs: on whom it was for, with interrupts off, once, and never too late. */
export const ask = sharedFunction('chaos.ask', (question: Question) => {
  const { cpu } = thisMachine()
  const book = ledger()
  noteRun(book, question, cpu.id)
  const { ticket, n, luggage, throws, stayMs } = question
  if (!cpu.irqsDisabled) book.accuse(`ticket ${ticket} runs with interrupts on, on CPU ${cpu.id}`)
  obeyInHandler(book, cpu.id)
  if (stayMs !== undefined) stall(stayMs)
  const reply = replyOf(n, cpu.id)
  if (throws === true) throw Object.assign(new RangeError(`chaos: ticket ${ticket}`), { reply })
  return luggage === undefined ? reply : { reply, luggage }
})

/** Writes down that a CPU runs a call, and accuses if it should not. */
export function noteRun(book: Ledger, { ticket, epoch }: Question, cpu: number): void {
  const bit = 1 << cpu
  const accuse = (what: string): void => book.accuse(`ticket ${ticket} ${what} on CPU ${cpu}`)
  if (epoch !== book.get(AT.epoch)) return accuse(`of epoch ${epoch} runs after its end`)
  // A plain read: what the caller stored before it called must be here.
  if ((book.words[AT.asked + ticket]! & bit) === 0) accuse('was not asked to run')
  if ((book.get(AT.mustNot + ticket) & bit) !== 0) accuse('was given up before it ran')
  if ((Atomics.or(book.words, AT.ran + ticket, bit) & bit) !== 0) accuse('runs twice')
}

/** A new question to some CPUs; undefined if the ledger is full. */
export function makeQuestion(book: Ledger, dice: Dice, asked: number): Question | undefined {
  const ticket = book.add(AT.tickets)
  if (ticket >= TICKETS_LEFT_AT) return undefined
  // Plain: the call that follows must bring it across.
  book.words[AT.asked + ticket] = asked
  const luggage = dice.chance(0.25) ? pack(dice) : undefined
  return {
    ticket,
    epoch: book.get(AT.epoch),
    n: dice.seed(),
    ...(luggage === undefined ? {} : { luggage }),
    ...(dice.chance(0.08) ? { throws: true } : {}),
    ...(dice.chance(0.05) ? { stayMs: dice.between(1, 30) / 10 } : {}),
  }
}

const TICKETS_LEFT_AT = AT.ran - AT.asked

/** Whether nothing more can be asked before the next look at the books. */
export function isFull(book: Ledger): boolean {
  return book.get(AT.tickets) >= TICKETS_LEFT_AT
}

/** Values small and large, of which some travel in a slot and others must go by port. */
function pack(dice: Dice): unknown {
  const size = dice.pick([3, 40, 900, 5000, 40_000])
  switch (dice.below(5)) {
    case 0:
      return 'x'.repeat(size)
    case 1:
      return new Uint8Array(size).fill(dice.below(256))
    case 2:
      return { a: dice.seed(), b: [1, 'zwei', null, { c: true }], d: 'y'.repeat(size) }
    case 3:
      return new Map([[dice.seed(), new Date(dice.seed())]])
    default:
      return Array.from({ length: Math.min(size, 60) }, () => dice.seed())
  }
}
