/** What every thread of a test of profiles imports: a function that takes most of the time. */

import { sharedFunction } from '../../src/index.ts'
import './forced-tasks.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask } from './machine-tasks.ts'

export function hotFunction(rounds: number): number {
  let x = 1
  for (let i = 0; i < rounds; i++) x = (x * 31 + i) | 0
  return x
}

function coolFunction(rounds: number): number {
  let x = 1
  for (let i = 0; i < rounds; i++) x = (x * 31 + i) | 0
  return x
}

/** Nineteen parts of twenty are the hot one's. */
export function work(): void {
  hotFunction(95_000)
  coolFunction(5_000)
}

/** Works without a safepoint or a turn, until told to stop: optimised before anybody looks. */
export const workOn = defineTask('profile.workOn', function workOn() {
  for (let i = 0; i < 200; i++) work()
  board().add(WORD.entered)
  while (board().get(WORD.release) === 0) work()
})

/** A handler that stands still for a while. */
export const standStill = sharedFunction('profile.standStill', () => {
  board().add(WORD.entered)
  board().block(WORD.done)
})
