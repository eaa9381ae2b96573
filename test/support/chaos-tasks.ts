/** What every thread of a machine under chaos imports: how it begins, works, and gives account. */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { threadId } from 'node:worker_threads'
import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import { isIpiError, sharedFunction, thisMachine, type Machine } from '../../src/index.ts'
import { describeError, type Workplace } from './chaos-calls.ts'
import { AT, CPUS_MAX, ledger, LANES, useLedger, WORK_LANES, type Ledger } from './chaos-ledger.ts'
import { ACTS, burst } from './chaos-operations.ts'
import { obeyInHandler, obeyInTask } from './chaos-orders.ts'
import { isFull } from './chaos-questions.ts'
import { local } from './chaos-thread.ts'
import { Dice } from './random.ts'

/** What a thread gets when it comes up. */
export interface Outfit {
  readonly buffer: SharedArrayBuffer
  readonly vectors: readonly number[]
}

process.on('warning', ({ name, message }) => {
  if (!message.includes('interprocessor') && !name.startsWith('MaxListeners')) return
  ledger().accuse(`a warning on thread ${threadId}: ${message}`)
})

/** A hotplug state's start-up: before this CPU is online. */
export const comeUp = sharedFunction('chaos.comeUp', ({ buffer, vectors }: Outfit) => {
  const book = useLedger(buffer)
  const machine = thisMachine()
  const { id } = machine.cpu
  if (book.take(AT.veto, 1)) throw new Error('chaos: veto of a start-up')
  book.forget(id)
  local.vectors = vectors
  for (const [number, vector] of vectors.entries()) {
    // What an earlier life of this number still owes is owed no more.
    const at = number * CPUS_MAX + id
    book.set(AT.delivered + at, book.get(AT.attempts + at))
    machine.requestIrq(vector, 'chaos', () => handle(machine, book, at))
  }
  machine.openSoftirq(local.softirq, () => (local.softirqsSeen = local.softirqsRaised))
  machine.on('error', ({ name, error }) => {
    // Only a call that nobody waited for may end here.
    const expected = name === 'chaos.ask' && error instanceof RangeError
    const expectedName = name === 'chaos.nobody knows this' || isUnknown(error)
    if (!expected && !expectedName) {
      book.accuse(`CPU ${id}: "${name}" threw: ${describeError(error)}`)
    }
  })
  book.set(AT.threads + id, threadId)
  book.add(AT.lives + id)
  book.isBuried = () => id !== 0 && machine.cpu.memory.readCpu(id, CPU.state) === CPU_STATE.dead
})

function isUnknown(error: unknown): boolean {
  return isIpiError(error) && error.code === 'IPI_UNKNOWN_FUNCTION'
}

function handle(machine: Machine, book: Ledger, at: number): void {
  local.handled++
  book.add(AT.runs + at)
  book.set(AT.delivered + at, book.get(AT.attempts + at))
  if (!machine.cpu.irqsDisabled) book.accuse(`CPU ${machine.cpu.id}: a handler, interrupts on`)
  obeyInHandler(book, machine.cpu.id)
  if ((local.handled & 7) === 0) {
    local.softirqsRaised++
    machine.raiseSoftirq(local.softirq)
  }
}

/** A hotplug state's teardown. */
export const goDown = sharedFunction('chaos.goDown', () => {
  if (ledger().take(AT.veto + 1, 1)) throw new Error('chaos: veto of a teardown')
})

/** Starts the lanes of a CPU, in a turn of their own. */
export const beginWork = sharedFunction('chaos.beginWork', (seed: number) => {
  const machine = thisMachine()
  const book = ledger()
  const { id } = machine.cpu
  const dice = new Dice(seed ^ Math.imul(id + 1, 0x85ebca6b) ^ book.get(AT.lives + id))
  const lanes = dice.between(1, WORK_LANES)
  book.add(AT.working + id, lanes)
  for (let lane = 0; lane < lanes; lane++) {
    setImmediate(() => void work(machine, book, new Dice(dice.seed()), lane))
  }
})

/** One lane: does one thing after the other until the work is over. */
async function work(machine: Machine, book: Ledger, dice: Dice, lane: number): Promise<void> {
  const { id } = machine.cpu
  const place = id * LANES + lane
  const workplace: Workplace = {
    machine,
    book,
    dice,
    lane,
    concerns: (bits) => book.set(AT.concerns + place, bits),
  }
  const acts = ACTS.filter(({ blocks }) => id !== 0 || blocks !== true || dice.chance(0.5))
  let flooded = book.get(AT.flood)
  while (book.get(AT.phase) !== 0 && !isFull(book)) {
    await obeyInTask(book, machine)
    const flood = book.get(AT.flood)
    const act = dice.weighted(acts)
    book.begin(id, lane, flood === flooded ? act.operation : 'burst')
    try {
      if (flood === flooded) await act.run(workplace)
      else await burst(workplace, dice.between(300, 1500), book.get(AT.floodTarget))
    } catch (error) {
      book.end(id, lane)
      // This CPU has been taken down: its thread is no CPU any more.
      if (isIpiError(error) && isLeaving(book, id, error.code)) break
      book.accuse(`CPU ${id}, lane ${lane}, ${act.operation}: ${describeError(error)}`)
      break
    }
    flooded = flood
    book.end(id, lane)
    if (dice.chance(0.1)) await nextTurn()
  }
  book.add(AT.working + id, -1)
}

function isLeaving(book: Ledger, cpu: number, code: string): boolean {
  return book.get(AT.leaving + cpu) !== 0 && code === 'IPI_MACHINE_CLOSED'
}

/** What a CPU says of itself when nothing is under way. */
export interface Account {
  readonly cpu: number
  readonly threadId: number
  readonly softirqsOwed: number
  readonly irqsDisabled: boolean
  readonly preemptCount: number
  /** Listeners of this thread's process object, and resources that Node counts. */
  readonly listeners: number
  readonly resources: number
}

/** Taken in a task, because a handler has interrupts off; fetched by `takeAccount`. */
let account: Account | undefined

export const giveAccount = sharedFunction('chaos.giveAccount', () => {
  account = undefined
  setImmediate(() => {
    const { cpu } = thisMachine()
    account = {
      cpu: cpu.id,
      threadId,
      softirqsOwed: local.softirqsRaised - local.softirqsSeen,
      irqsDisabled: cpu.irqsDisabled,
      preemptCount: cpu.preempt.value,
      listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
      resources: process.getActiveResourcesInfo().length,
    }
  })
})

export const takeAccount = sharedFunction('chaos.takeAccount', () => account)

/** Calls every CPU and tells who answered: that everybody reaches everybody is asked of each. */
export const greetAll = sharedFunction('chaos.greetAll', () => {
  const machine = thisMachine()
  greeted = undefined
  setImmediate(() => {
    void machine.onEachCpu<undefined, number>('chaos.number').then(
      (numbers) =>
        (greeted = [...numbers].every(([cpu, number]) => cpu === number) ? numbers.size : -1),
      (error: unknown) => (greeted = describeError(error)),
    )
  })
})

let greeted: number | string | undefined

export const takeGreeted = sharedFunction('chaos.takeGreeted', () => greeted)
export const numberOf = sharedFunction('chaos.number', () => thisMachine().cpu.id)
