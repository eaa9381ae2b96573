/** What the CPUs of the idle tests do: turn their event loop, count interrupts, watch each other. */

import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import { sharedFunction, thisMachine } from '../../src/index.ts'
import { WORD } from './machine-board.ts'
import { board } from './machine-tasks.ts'

/** The vector that `startCounting` counts at WORD.counted. */
export const COUNTED_VECTOR = 0x52
/** The board's word for the turns of an event loop. */
export const TURNS = WORD.free

/** How long CPU 0 may take to say that it looks by itself. */
const LOOK_MS_MAX = 2000

/** Counts each interrupt that is handled. */
export const startCounting = sharedFunction('machine.startCounting', () => {
  thisMachine().requestIrq(COUNTED_VECTOR, 'counted', () => board().add(WORD.counted))
})

/** Keeps the event loop turning, as an application that is never done, until told to stop. */
export const startTurning = sharedFunction('machine.startTurning', () => {
  const turn = (): void => {
    board().add(TURNS)
    if (board().get(WORD.release) === 0) setImmediate(turn)
  }
  setImmediate(turn)
})

/** Returns once CPU 0 says that it looks by itself, or does not for long; gives which. */
export const seeRunning = sharedFunction('machine.seeRunning', () => {
  const { memory } = thisMachine().cpu
  const deadline = performance.now() + LOOK_MS_MAX
  while (memory.readCpu(0, CPU.state) !== CPU_STATE.running) {
    if (performance.now() > deadline) return false
  }
  return true
})
