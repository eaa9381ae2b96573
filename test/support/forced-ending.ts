/** Programs that end, or threads that do, while something was forced into them: for hazards.test.ts. */

import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { boot, createMachine } from '../../src/index.ts'
import { Board, settled, WORD } from './machine-board.ts'
import { setBoard, startTask } from './machine-tasks.ts'
import {
  capabilities,
  hang,
  MAY_END,
  NMIS,
  sendSoon,
  sendWhenEntered,
  skipLooks,
  startLoop,
  waitInExit,
  watchNmis,
} from './forced-tasks.ts'

const entry = new URL('./forced-tasks.js', import.meta.url)
const board = new Board()
const [, , program = '', ...flags] = process.argv

/** A machine of two, the board on both. */
async function machineOf(options: object = {}): ReturnType<typeof boot> {
  const machine = await boot({ cpus: 2, entry, ...options })
  await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
  return machine
}

/** CPU 1 is in a loop for ever, and in it in an NMI handler that never returns. */
async function hangingCpu(): ReturnType<typeof boot> {
  const machine = await machineOf()
  await machine.smpCallFunctionSingle(1, hang, 'loop')
  await machine.smpCallFunctionSingle(1, startLoop)
  await board.reached(WORD.entered)
  machine.sendNmi([1])
  await board.reached(WORD.done)
  return machine
}

/** The code that a promise is rejected with. */
function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: unknown) => (error as { code: string }).code,
  )
}

const programs: Record<string, () => Promise<void>> = {
  'exit() while a forced handler never ends': async () => {
    await hangingCpu()
    process.exit(5)
  },
  'the end of its work while a forced handler never ends': async () => {
    await hangingCpu()
  },
  'an error that nobody catches while a forced handler never ends': async () => {
    await hangingCpu()
    setImmediate(() => {
      throw new Error('end of the program')
    })
  },
  'close() while a forced handler never ends': async () => {
    const machine = await hangingCpu()
    await machine.close()
    process.stdout.write('closed')
  },
  'terminate() while a forced handler never ends': async () => {
    const machine = createMachine()
    const worker = new Worker(fileURLToPath(new URL('./machine-adopted.js', import.meta.url)), {
      workerData: { tasks: entry.href },
    })
    await machine.bringUp(worker)
    await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
    await machine.smpCallFunctionSingle(1, hang, 'loop')
    await machine.smpCallFunctionSingle(1, startLoop)
    await board.reached(WORD.entered)
    machine.sendNmi([1])
    await board.reached(WORD.done)
    await settled(worker.terminate(), 'terminate()')
    process.stdout.write('terminated')
    await machine.close()
  },
  'exit() of a worker in a forced handler': async () => {
    const machine = await machineOf()
    const died = new Promise<void>((resolve) => machine.on('died', () => resolve()))
    await machine.smpCallFunctionSingle(1, hang, 'exit')
    await machine.smpCallFunctionSingle(1, startLoop)
    await board.reached(WORD.entered)
    machine.sendNmi([1])
    await settled(died, 'the death of CPU 1')
    process.stdout.write('died')
    await machine.close()
  },
  'exit() after a worker was the first to force an entry': async () => {
    const machine = await machineOf()
    watchNmis(undefined)
    await machine.smpCallFunctionSingle(1, sendSoon, 0)
    board.block(NMIS)
    process.stdout.write('reached')
    process.exit(5)
  },
  'exit() while a loop never looks': async () => {
    const machine = await machineOf({ pollEveryLoop: flags.includes('pollEveryLoop') })
    await machine.smpCallFunctionSingle(1, watchNmis)
    await machine.smpCallFunctionSingle(1, skipLooks)
    await board.reached(WORD.entered)
    machine.sendNmi([1])
    await board.reached(NMIS + 1)
    process.stdout.write('reached')
    process.exit(5)
  },
  'close() while a loop never looks': async () => {
    const machine = await machineOf()
    await machine.smpCallFunctionSingle(1, skipLooks)
    await board.reached(WORD.entered)
    await machine.close()
    process.stdout.write('closed')
    await nextTurn()
    // The thread is still there, and Node would wait for it.
    process.kill(process.pid, 'SIGKILL')
  },
  "NMIs in handlers of the event 'exit', of a worker": async () => {
    const machine = await machineOf()
    await machine.smpCallFunctionSingle(1, watchNmis)
    const died = new Promise<void>((resolve) => machine.on('died', () => resolve()))
    await machine.smpCallFunctionSingle(1, waitInExit)
    await board.reached(WORD.entered)
    machine.sendNmi([1])
    await board.reached(WORD.done)
    const refused = await codeOf(Promise.resolve().then(() => machine.sendNmi([1])))
    board.set(MAY_END, 1)
    await settled(died, 'the death of CPU 1')
    process.stdout.write(`taken ${board.get(NMIS + 1)}, then ${refused}`)
    await machine.close()
  },
  "NMIs in handlers of the event 'exit', of the main thread": async () => {
    // Before the first of this library's, which ends all forced entry.
    process.on('exit', () => {
      board.add(WORD.entered)
      board.block(NMIS)
      machine.sendNmi([1])
      board.block(NMIS + 1)
      process.stdout.write(`main thread: ${board.get(NMIS)}, worker: ${board.get(NMIS + 1)}`)
    })
    const machine = await machineOf()
    watchNmis(undefined)
    await machine.smpCallFunctionSingle(1, watchNmis)
    await startTask(1, sendWhenEntered, { target: 0, entered: 1 })
    process.exit(5)
  },
  'an NMI while a debugger has stopped the main thread': async () => {
    const machine = await machineOf()
    watchNmis(undefined)
    const user = new Worker(new URL('./forced-user.js', import.meta.url), {
      workerData: board.words.buffer,
    })
    await board.reached(WORD.sent)
    await startTask(1, sendWhenEntered, { target: 0, entered: 1 })
    // oxlint-disable-next-line no-debugger -- it is this that is tested
    debugger
    const when = board.get(WORD.done) === 1 ? 'while it stood' : 'too late'
    process.stdout.write(`${board.get(NMIS)} taken ${when}`)
    await once(user, 'exit')
    await machine.close()
  },
  'a machine made in a worker': async () => {
    const worker = new Worker(fileURLToPath(import.meta.url), { argv: ['no forced entry'] })
    await once(worker, 'exit')
  },
  'no forced entry': async () => {
    const machine = await machineOf()
    const { forcedEntry, reason } = machine.capabilities
    process.stdout.write(`${String(forcedEntry)}: ${reason}\n`)
    const there = await machine.smpCallFunctionSingle(1, capabilities)
    process.stdout.write(`${String(there)}\n`)
    await machine.smpCallFunctionSingle(1, watchNmis)
    machine.sendNmi([1])
    await board.reached(NMIS + 1)
    process.stdout.write('taken in the event loop\n')
    const forced = machine.smpCallFunctionSingle(1, capabilities, undefined, { forceAfterMs: 5 })
    process.stdout.write(`call: ${await codeOf(forced)}\n`)
    await machine.close()
    process.stdout.write(`boot: ${await codeOf(boot({ cpus: 1, forceAfterMs: 5 }))}`)
  },
}

await programs[program]!()
