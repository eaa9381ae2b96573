/** What a CPU under chaos does besides calling: every other verb, and the checks that belong to it. */

import { isIpiError } from '../../src/index.ts'
import { describeError, livesOf, makeCall, PATIENCE_MS, type Workplace } from './chaos-calls.ts'
import { AT, CPUS_MAX, PAGES, VECTORS, type Operation } from './chaos-ledger.ts'
import { obeyInHandler, stall } from './chaos-orders.ts'
import { ask, isFull, makeQuestion, replyOf } from './chaos-questions.ts'
import { local } from './chaos-thread.ts'

/** Something that a lane can do. */
interface Act {
  readonly operation: Operation
  readonly weight: number
  /** Holds the thread up for longer than CPU 0 may stand still. */
  readonly blocks?: boolean
  readonly run: (place: Workplace) => Promise<void> | void
}

export const ACTS: readonly Act[] = [
  { operation: 'call', weight: 30, run: (place) => makeCall(place, false) },
  { operation: 'blocking call', weight: 20, blocks: true, run: (place) => makeCall(place, true) },
  { operation: 'burst', weight: 1, run: (place) => burst(place, place.dice.between(10, 60)) },
  { operation: 'interrupt', weight: 12, run: interrupt },
  { operation: 'reschedule', weight: 5, run: reschedule },
  { operation: 'flush', weight: 4, run: flush },
  { operation: 'translate', weight: 8, run: translate },
  { operation: 'stopMachine', weight: 0.4, run: stopMachine },
  { operation: 'softirq', weight: 3, run: softirq },
  { operation: 'interrupts off', weight: 4, run: interruptsOff },
  { operation: 'safepoints', weight: 3, run: safepoints },
  { operation: 'halt', weight: 2, blocks: true, run: halt },
  { operation: 'garbage', weight: 1, run: garbage },
]

/** Many calls to one CPU at once: more than there are slots. Waits for all of them. */
export async function burst(place: Workplace, times: number, target?: number): Promise<void> {
  const { machine, book, dice, concerns } = place
  const cpu = target ?? dice.pick([...machine.onlineMask])
  concerns(1 << cpu)
  const calls: Promise<void>[] = []
  for (let made = 0; made < times && !isFull(book); made++) {
    if (dice.chance(0.3)) sendVector(place, [cpu])
    const question = makeQuestion(book, dice, 1 << cpu)
    if (question === undefined) break
    const { luggage: _, throws: __, stayMs: ___, ...plain } = question
    calls.push(burstCall(place, cpu, plain))
  }
  await Promise.all(calls)
}

async function burstCall(
  { machine, book }: Workplace,
  cpu: number,
  question: { readonly ticket: number; readonly epoch: number; readonly n: number },
): Promise<void> {
  try {
    const reply = await machine.smpCallFunctionSingle(cpu, ask, question, {
      timeoutMs: PATIENCE_MS,
    })
    book.settled('answered')
    if (reply !== replyOf(question.n, cpu)) {
      book.accuse(`CPU ${machine.cpu.id}: ticket ${question.ticket} of a burst: wrong answer`)
    }
  } catch (error) {
    const code = isIpiError(error) ? error.code : undefined
    if (code === 'IPI_CPU_DIED' && cpu !== 0) return book.settled('died')
    if (code === 'IPI_CPU_OFFLINE' && cpu !== 0) return book.settled('offline')
    if (code === 'IPI_MACHINE_CLOSED' && book.get(AT.leaving + machine.cpu.id) !== 0) {
      return book.settled('closed')
    }
    book.accuse(
      `CPU ${machine.cpu.id}: ticket ${question.ticket} of a burst to CPU ${cpu}: ` +
        describeError(error),
    )
  }
}

function interrupt(place: Workplace): void {
  const { machine, dice } = place
  sendVector(place, dice.chance(0.5) ? dice.some(machine.possibleMask.size) : undefined)
}

/**
 * Sends a vector by one of the four senders. The attempt is counted before the online map is read,
 * and that before the interrupt leaves: so whoever is in the map owes a delivery that sees the
 * attempt, in this life of its number or by what it found when the next began.
 */
export function sendVector({ machine, book, dice }: Workplace, mask?: readonly number[]): void {
  const self = machine.cpu.id
  const number = dice.below(VECTORS)
  const vector = local.vectors[number]!
  const how = mask === undefined ? dice.pick(['all', 'others', 'self'] as const) : 'mask'
  const all = [...machine.possibleMask]
  const whom =
    mask ?? (how === 'all' ? all : how === 'self' ? [self] : all.filter((cpu) => cpu !== self))
  const at = (cpu: number): number => number * CPUS_MAX + cpu
  const attempts = whom.map((cpu) => book.add(AT.attempts + at(cpu)) + 1)
  const online = machine.onlineMask
  try {
    if (how === 'all') machine.sendIpiAll(vector)
    else if (how === 'others') machine.sendIpiAllButSelf(vector)
    else if (how === 'self') machine.sendIpiSelf(vector)
    else machine.sendIpiMask(whom, vector)
  } catch (error) {
    if (how === 'mask' && isIpiError(error) && error.code === 'IPI_CPU_OFFLINE') return
    throw error
  }
  for (const [i, cpu] of whom.entries()) {
    if (online.has(cpu)) book.raise(AT.completed + at(cpu), attempts[i]!)
  }
}

function reschedule({ machine, dice }: Workplace): void {
  const cpu = dice.below(machine.possibleMask.size)
  try {
    if (dice.chance(0.5)) machine.smpSendReschedule(cpu)
    else machine.reschedTask(cpu)
  } catch (error) {
    if (isIpiError(error) && error.code === 'IPI_CPU_OFFLINE' && cpu !== 0) return
    throw error
  }
}

/** What a page is now, or was not long ago: but never older than the last flush that returned. */
function translate({ machine, book, dice }: Workplace): void {
  const space = machine.addressSpace(`chaos.${dice.below(2)}`)
  if (dice.chance(0.05)) return space.enterLazy()
  const page = dice.below(PAGES)
  const floor = book.get(AT.floor + page)
  const seen = space.translate(page, () => book.get(AT.table + page))
  if (seen - floor < 0) {
    book.accuse(`CPU ${machine.cpu.id}: page ${page} is ${seen} after the flush of ${floor}`)
  }
}

async function flush(place: Workplace): Promise<void> {
  const { machine, book, dice } = place
  const page = dice.below(PAGES)
  const now = book.add(AT.table + page) + 1
  const spaces = [0, 1].map((number) => machine.addressSpace(`chaos.${number}`))
  const how = dice.below(machine.cpu.id === 0 ? 4 : 6)
  if (how === 0) await machine.flushTlbAll()
  for (const space of how === 0 ? [] : spaces) {
    if (how === 1) await space.flushTlbPage(page)
    else if (how === 2) await space.flushTlbMm()
    else if (how === 3) await space.flushTlbRange(page, page + 1)
    else if (how === 4) space.flushTlbPageSync(page)
    else space.flushTlbMmSync()
  }
  book.raise(AT.floor + page, now)
}

/** While the function runs, nobody gets anything done. */
async function stopMachine({ machine, book, dice }: Workplace): Promise<void> {
  const hasty = dice.chance(0.2)
  const self = machine.cpu.id
  const lives = livesOf(machine, book)
  const run = (): number => {
    obeyInHandler(book, self)
    const others = livesOf(machine, book)
      .map((life, cpu) => (life !== 0 && life === lives[cpu] ? cpu : self))
      .filter((cpu) => cpu !== self)
    const beats = (): number[] => others.map((cpu) => book.words[AT.beat + cpu * 16]!)
    const before = beats()
    stall(0.2)
    const after = beats()
    const moved = others.filter((_, i) => before[i] !== after[i])
    const online = machine.onlineMask
    const guilty = moved.filter((cpu) => online.has(cpu))
    if (guilty.length > 0)
      book.accuse(`CPU ${self} stopped the machine, and ${guilty.join()} went on`)
    return 4711
  }
  try {
    const gave = await machine.stopMachine(run, undefined, { timeoutMs: hasty ? 5 : PATIENCE_MS })
    if (gave !== 4711) book.accuse(`stopMachine on CPU ${self} gave ${String(gave)}`)
  } catch (error) {
    if (
      !isIpiError(error) ||
      !hasty ||
      (error.code !== 'IPI_TIMEOUT' && error.code !== 'IPI_CPU_BUSY')
    )
      throw error
  }
}

function softirq({ machine }: Workplace): void {
  local.softirqsRaised++
  machine.raiseSoftirq(local.softirq)
}

/** A section in which no handler runs, and a wait is refused. */
async function interruptsOff(place: Workplace): Promise<void> {
  const { machine, book, dice } = place
  const { cpu } = machine
  const target = (cpu.id + 1) % machine.possibleMask.size
  const flags = cpu.localIrqSave()
  const handled = local.handled
  if (dice.chance(0.5)) sendVector(place, [cpu.id])
  stall(dice.between(0, 20) / 10)
  cpu.poll()
  const refused = dice.chance(0.3) ? machine.smpCallFunctionSingle(target, ask) : undefined
  if (local.handled !== handled) book.accuse(`CPU ${cpu.id} handled with interrupts off`)
  cpu.localIrqRestore(flags)
  if (refused === undefined) return
  const outcome = await refused.catch((error: unknown) => error)
  const code = isIpiError(outcome) ? outcome.code : ''
  if (code === 'IPI_WOULD_DEADLOCK') return
  if (code === 'IPI_MACHINE_CLOSED' && book.get(AT.leaving + cpu.id) !== 0) return
  book.accuse(`CPU ${cpu.id} called with interrupts off, and got ${String(outcome)}`)
}

function safepoints({ machine, book, dice }: Workplace): void {
  const { cpu } = machine
  const end = performance.now() + dice.between(1, 40) / 10
  while (performance.now() < end) {
    if (dice.chance(0.01)) cpu.cpuRelax()
    else cpu.poll()
    book.words[AT.beat + cpu.id * 16]!++
  }
}

function halt({ machine, dice }: Workplace): void {
  const ms = dice.between(0, 10)
  if (dice.chance(0.5)) machine.cpu.halt(ms)
  else machine.cpu.safeHalt(ms)
}

/** Work for the collector: it stops this thread wherever it is. */
function garbage({ dice }: Workplace): void {
  const heap: unknown[] = []
  for (let i = dice.between(1, 40) * 1000; i > 0; i--) heap.push({ i, text: `${i}` })
  local.garbage = heap.slice(-10)
}
