/** What CPUs write down of their coming and going. */

import { threadId } from 'node:worker_threads'
import { attach, sharedFunction, thisMachine } from '../../src/index.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask, echo, whoAmI } from './machine-tasks.ts'

/** One line of a CPU's diary. */
export interface Entry {
  readonly what: string
  readonly online: boolean
  readonly irqsDisabled: boolean
}

/** What a state's functions are given: its name, and the CPU that will have none of it. */
export interface StateInfo {
  readonly name: string
  readonly refuses?: number
  readonly stays?: number
}

const diary: Entry[] = []

function write(what: string): void {
  const { cpu, onlineMask } = thisMachine()
  diary.push({ what, online: onlineMask.has(cpu.id), irqsDisabled: cpu.irqsDisabled })
}

export const stateUp = sharedFunction('machine.stateUp', ({ name, refuses }: StateInfo) => {
  const { id } = thisMachine().cpu
  if (refuses === id) throw new RangeError(`${name} refused by CPU ${id}`)
  write(`${name} up`)
})

/** Runs on a thread that goes: what it wrote stands on the board as well. */
export const stateDown = sharedFunction('machine.stateDown', ({ name, stays }: StateInfo) => {
  const { id } = thisMachine().cpu
  if (stays === id) throw new RangeError(`${name} keeps CPU ${id}`)
  write(`${name} down`)
  board().add(WORD.done)
})

/** What was written down on this CPU since the last time. */
export const takeDiary = sharedFunction('machine.takeDiary', () => diary.splice(0))

/** Ticks on the board from a timer of the application. */
export const startTicking = sharedFunction('machine.startTicking', () => {
  setInterval(() => board().add(WORD.counted), 1)
})

/** Calls a CPU that comes and goes, until told to stop; gives what became of the calls. */
export const pester = defineTask(
  'pester',
  async ({ target, word, inFlight }: { target: number; word: number; inFlight: number }) => {
    const machine = thisMachine()
    const outcomes: Record<string, number> = { answered: 0 }
    const lane = async (): Promise<void> => {
      while (board().get(WORD.release) === 0) {
        try {
          await machine.smpCallFunctionSingle(target, 'machine.count', word)
          outcomes['answered']!++
        } catch (error) {
          const { code } = error as { code: string }
          outcomes[code] = (outcomes[code] ?? 0) + 1
        }
        board().add(WORD.sent)
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    await Promise.all(Array.from({ length: inFlight }, lane))
    return outcomes
  },
)

/** A long task with safepoints: serves, as far as this thread is a CPU, until told to stop. */
export const pollUntilReleased = defineTask('pollUntilReleased', () => {
  const { cpu } = thisMachine()
  board().add(WORD.entered)
  while (board().get(WORD.release) === 0) cpu.poll()
  return threadId
})

/** Leaves the machine's thread behind: calls through the machine that it was a CPU of. */
export const callAfterLeaving = defineTask('callAfterLeaving', async () => {
  const machine = thisMachine()
  board().add(WORD.entered)
  await board().reached(WORD.release)
  const codes: unknown[] = []
  const note = (error: unknown): void => void codes.push((error as { code?: unknown }).code)
  await machine.smpCallFunctionSingle(0, whoAmI).then(() => codes.push('called'), note)
  await machine.smpCallFunction(echo, 1).then(() => codes.push('called'), note)
  try {
    machine.smpCallFunctionSingleSync(0, whoAmI)
    codes.push('called')
  } catch (error) {
    note(error)
  }
  return codes
})

/** Waits to be taken down, then attaches once more. */
export const attachAgainAfterLeaving = defineTask('attachAgainAfterLeaving', async () => {
  board().add(WORD.entered)
  await board().reached(WORD.release)
  const machine = await attach()
  return machine.cpu.id
})
