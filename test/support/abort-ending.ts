/** Programs that end, or threads that do, while a task runs that can be aborted: for abort-ending.test.ts. */

import { boot, type Machine } from '../../src/index.ts'
import { openExecutor, runTasks, STARTED, type TaskName } from './abort-tasks.ts'
import { Board, settled } from './machine-board.ts'
import { echo, runTask, setBoard } from './machine-tasks.ts'

const entry = new URL('./abort-tasks.js', import.meta.url)
const board = new Board()
const [, , program = ''] = process.argv

/** A machine of two on whose CPU 1 a task runs. */
async function machineWith(name: TaskName): Promise<Machine> {
  const machine = await boot({ cpus: 2, entry })
  await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
  await start(machine, 1, name)
  return machine
}

async function start(machine: Machine, task: number, name: TaskName): Promise<void> {
  await settled(runTask(1, openExecutor), 'opening')
  await machine.smpCallFunctionSingle(1, runTasks, { orders: [{ task, name }] })
  await board.reached(STARTED, task)
}

const programs: Record<string, () => Promise<void>> = {
  'exit() while a task runs': async () => {
    await machineWith('spin')
    process.exit(5)
  },
  'close() while a task runs': async () => {
    const machine = await machineWith('spin')
    await machine.close()
    process.stdout.write('closed')
  },
  'exit() in a task': async () => {
    const machine = await machineWith('quick')
    const died = new Promise<void>((resolve) => machine.on('died', () => resolve()))
    await machine.smpCallFunctionSingle(1, runTasks, {
      orders: [{ task: 2, name: 'process.exit()' }],
    })
    await settled(died, 'the death of CPU 1')
    process.stdout.write('died')
    await machine.close()
  },
  'an abort and the end of the thread at once': async () => {
    const machine = await machineWith('spin')
    for (let task = 1; task <= 20; task++) {
      const abort = machine.abortTask(1, task, { timeoutMs: 15_000 })
      const outcomes = await settled(
        Promise.all([abort, machine.replaceCpu(1, { timeoutMs: task % 2 })]),
        'both',
      )
      if (outcomes[1] !== true || !['aborted', 'ended', 'finished'].includes(outcomes[0])) {
        throw new Error(outcomes.join(' '))
      }
      await settled(machine.smpCallFunctionSingle(1, echo, task), 'a call')
      await start(machine, task + 1, 'spin')
    }
    process.stdout.write('ended each time')
    await machine.close()
  },
  'no forced entry': async () => {
    const machine = await machineWith('cpu.poll()')
    process.stdout.write(`${machine.capabilities.forcedEntry}\n`)
    process.stdout.write(`${await machine.abortTask(1, 1, { timeoutMs: 15_000 })}\n`)
    await start(machine, 2, 'spin')
    process.stdout.write(`${await machine.abortTask(1, 2, { timeoutMs: 100 })}`)
    await machine.close()
  },
}

await programs[program]!()
