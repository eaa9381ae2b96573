/** What every thread of a test of lockups imports: ways to be stuck, and ways to be quiet. */

import { thisMachine, type Lockup } from '../../src/index.ts'
import './forced-tasks.ts'
import { DEADLINE_MS, WORD } from './machine-board.ts'
import { board, defineTask } from './machine-tasks.ts'

const isOver = (): boolean => board().get(WORD.release) !== 0

/** Throws once nobody will release it any more. */
function deadline(): () => void {
  const end = performance.now() + DEADLINE_MS
  return () => {
    if (performance.now() > end) throw new Error('nobody released it')
  }
}

/** In a loop until a word of the board is set: so that several can be released one by one. */
export const loopUntilSet = defineTask('lockup.loopUntilSet', function loopUntilSet(word: number) {
  const check = deadline()
  board().add(WORD.entered)
  while (board().get(word) === 0) check()
})

/** Comes to safepoints all the time, with interrupts off. */
export const pollLoopOff = defineTask('lockup.pollLoopOff', function pollLoopOff() {
  const { cpu } = thisMachine()
  const check = deadline()
  cpu.localIrqDisable()
  try {
    board().add(WORD.entered)
    for (; !isOver(); check()) cpu.poll()
  } finally {
    cpu.localIrqEnable()
  }
})

/** States of a CPU that is well. Each begins by saying so. */
export const QUIET = {
  'in a loop with safepoints': () => {
    const { cpu } = thisMachine()
    const check = deadline()
    board().add(WORD.entered)
    for (; !isOver(); check()) cpu.poll()
  },
  halted: () => {
    board().add(WORD.entered)
    while (!isOver()) thisMachine().cpu.halt(DEADLINE_MS)
  },
  'blocked in a call': () => {
    board().add(WORD.entered)
    const { cpu } = thisMachine()
    thisMachine().smpCallFunctionSingleSync(cpu.id + 1, 'machine.hold', {})
  },
  'in turns of its event loop': async () => {
    const check = deadline()
    board().add(WORD.entered)
    for (; !isOver(); check()) await new Promise((resolve) => setImmediate(resolve))
  },
  'off and on': () => {
    const { cpu } = thisMachine()
    const check = deadline()
    board().add(WORD.entered)
    while (!isOver()) {
      cpu.localIrqDisable()
      for (const end = performance.now() + 20; performance.now() < end;) check()
      cpu.localIrqEnable()
    }
  },
  idle: () => {
    board().add(WORD.entered)
  },
} satisfies Record<string, () => unknown>

/** Brings a CPU into a state of QUIET. */
export const beQuiet = defineTask('lockup.beQuiet', (state: keyof typeof QUIET) => QUIET[state]())

/** Listens on its thread; says `done` once CPU 0 was found stuck, and gives both reports at the end. */
export const watchBoot = defineTask('lockup.watchBoot', async () => {
  const machine = thisMachine()
  const reports: Lockup[] = []
  await new Promise<void>((resolve) => {
    machine.on('stuck', (report) => {
      if (report.kind === 'call' || report.cpu !== 0) return
      reports.push(report)
      board().set(WORD.done, 1)
    })
    machine.on('unstuck', (report) => {
      if (report.kind === 'call' || report.cpu !== 0) return
      reports.push(report)
      resolve()
    })
    board().add(WORD.entered)
  })
  return reports
})
