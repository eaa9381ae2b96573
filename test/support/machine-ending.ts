/** Programs that end, for the tests of what a machine does to the end of its process. */

import { setTimeout as pause } from 'node:timers/promises'
import { boot, createMachine } from '../../src/index.ts'
import { Board, WORD } from './machine-board.ts'
import { echo, hold, releaseSoon, setBoard } from './machine-tasks.ts'

const entry = new URL('./machine-tasks.js', import.meta.url)
const board = new Board()

/** Boots, and puts the board on every CPU. */
async function machineOf(options: object): ReturnType<typeof boot> {
  const machine = await boot({ cpus: 3, entry, ...options })
  await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
  return machine
}

const programs: Record<string, () => Promise<void>> = {
  'idle, parked': async () => {
    await machineOf({ haltPollMs: 0 })
  },
  'idle, polling': async () => {
    const machine = await machineOf({ haltPollMs: Infinity })
    await machine.smpCallFunction(echo, 1)
  },
  'idle, after calls that failed': async () => {
    const machine = await machineOf({})
    await machine.smpCallFunction('nobody knows this').catch(() => undefined)
    const late = machine.smpCallFunctionSingle(1, releaseSoon, 50, { timeoutMs: 1 })
    await late.catch(() => undefined)
  },
  'alone, no other CPU': () => {
    createMachine()
    return Promise.resolve()
  },
  closed: async () => {
    const machine = await machineOf({})
    await machine.close()
  },
  'exit() with a call out': async () => {
    const machine = await machineOf({})
    void machine.smpCallFunctionSingle(1, hold)
    await board.reached(WORD.entered)
    process.exit(5)
  },
  'exit() while every CPU is busy': async () => {
    const machine = await machineOf({ haltPollMs: Infinity })
    void machine.smpCallFunction(hold)
    await board.reached(WORD.entered, 2)
    process.exit(5)
  },
  'an error that nobody catches, with a call out': async () => {
    const machine = await machineOf({})
    void machine.smpCallFunctionSingle(1, hold)
    await board.reached(WORD.entered)
    setImmediate(() => {
      throw new Error('end of the program')
    })
  },
  'an awaited call keeps it alive': async () => {
    const machine = await machineOf({})
    // Nothing else does: the answer comes from a timer of the other thread.
    await machine.smpCallFunctionSingle(1, releaseSoon, 300)
    await machine.smpCallFunctionSingle(2, hold)
    process.stdout.write('answered')
  },
  'an awaited deadline keeps it alive': async () => {
    const machine = await machineOf({})
    const late = machine.smpCallFunctionSingle(1, hold, {}, { timeoutMs: 300 })
    await late.catch((error: unknown) => process.stdout.write((error as { code: string }).code))
  },
  'an application timer goes on': async () => {
    await machineOf({})
    await pause(100)
    process.stdout.write('ticked')
  },
}

await programs[process.argv[2]!]!()
