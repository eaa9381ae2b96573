/** The two sides of the matrix test: a target in some state, and those who interrupt it there. */

import { sharedFunction, thisMachine } from '../../src/index.ts'
import { BOARD_CPUS, WORD } from './machine-board.ts'
import { board, defineTask, hold, whoAmI } from './machine-tasks.ts'

/** What a target does while others interrupt it. */
export const TARGET_STATES = [
  'idle',
  'polling in a task',
  'halted',
  'with interrupts off, then on',
  'in a long synchronous section',
  'in a handler',
  'blocked in a call of its own',
] as const
export type TargetState = (typeof TARGET_STATES)[number]

/** Each sender has a vector of its own, so that no two can merge. */
export const VECTOR_OF_SENDER = 0x40
const VECTOR_OF_HANDLER = 0x60

/** Puts handlers behind the vectors of all senders: run once on each CPU. */
export const listen = sharedFunction('machine.listen', (cpus: number) => {
  const machine = thisMachine()
  const row = WORD.vectors + machine.cpu.id * BOARD_CPUS
  for (let sender = 0; sender < cpus; sender++) {
    machine.requestIrq(VECTOR_OF_SENDER + sender, `from CPU ${sender}`, () =>
      board().add(row + sender),
    )
  }
  machine.requestIrq(VECTOR_OF_HANDLER, 'long handler', () => {
    board().add(WORD.entered)
    board().block(WORD.sent, board().get(WORD.free))
  })
})

/** The call of one CPU to another: counted where it ran, answered with where and for whom. */
export const record = sharedFunction('machine.record', (sender: number) => {
  const { id } = thisMachine().cpu
  board().add(WORD.calls + id * BOARD_CPUS + sender)
  return `CPU ${id} for CPU ${sender}`
})

/** Is in a state until everybody has sent; gives how many interrupts came in while none should. */
export const enter = defineTask(
  'enter',
  ({ state, senders, helper }: { state: TargetState; senders: number; helper: number }) => {
    const machine = thisMachine()
    const { cpu } = machine
    const allSent = (): boolean => board().get(WORD.sent) >= senders
    let early = 0
    if (state === 'in a handler') {
      board().set(WORD.free, senders)
      machine.sendIpiSelf(VECTOR_OF_HANDLER)
      return early
    }
    const off = state === 'with interrupts off, then on'
    if (off) cpu.localIrqDisable()
    board().add(WORD.entered)
    if (off || state === 'polling in a task') {
      // With interrupts off a safepoint is none.
      while (!allSent()) cpu.poll()
    } else if (state === 'halted') {
      while (!allSent()) cpu.halt(20)
    } else if (state === 'blocked in a call of its own') {
      machine.smpCallFunctionSingleSync(helper, hold)
    } else if (state !== 'idle') {
      board().block(WORD.sent, senders)
    }
    if (!off && state !== 'in a long synchronous section') return early
    for (let sender = 0; sender < BOARD_CPUS; sender++) {
      early += board().get(WORD.calls + cpu.id * BOARD_CPUS + sender)
      early += board().get(WORD.vectors + cpu.id * BOARD_CPUS + sender)
    }
    if (off) cpu.localIrqEnable()
    return early
  },
)

/** Interrupts a target once it is in its state: by a vector, and by a call. Gives the answer. */
export const send = defineTask(
  'send',
  async ({ target, entered, senders }: { target: number; entered: number; senders: number }) => {
    const machine = thisMachine()
    const { id } = machine.cpu
    await board().reached(WORD.entered, entered)
    machine.sendIpiMask([target], VECTOR_OF_SENDER + id)
    const call = machine.smpCallFunctionSingle(target, record, id)
    board().add(WORD.sent)
    const answer = await call
    // The last one lets the helper go, and with it a target that is blocked: even this very thread.
    board().add(WORD.done)
    if (board().get(WORD.done) === senders) board().set(WORD.release, 1)
    return answer
  },
)

/** Calls every other CPU in turn, blocking, again and again. Everybody does this at once. */
export const callEverybody = defineTask('callEverybody', (rounds: number) => {
  const machine = thisMachine()
  const { id } = machine.cpu
  board().add(WORD.entered)
  board().block(WORD.entered, machine.onlineMask.size)
  for (let round = 0; round < rounds; round++) {
    for (const other of machine.onlineMask.without(id)) {
      const answer = machine.smpCallFunctionSingleSync(other, record, id)
      if (answer !== `CPU ${other} for CPU ${id}`) throw new Error(`wrong answer: ${answer}`)
    }
    const all = machine.smpCallFunctionSync(whoAmI)
    for (const [cpu, value] of all) if (cpu !== value) throw new Error('an answer of another CPU')
  }
})
