/** The numbers of a demonstration: how many CPUs, how many rounds. */

import { availableParallelism } from 'node:os'

/** With two there is somebody to interrupt. */
export const CPU_COUNT_MIN = 2
/** The most that one destination mask of the interrupt command register can name. */
export const CPU_COUNT_MAX = 8
/** Fewer would leave out a call between two worker threads, and most of every mask. */
const CPU_COUNT_USUAL = 4

/** The number of CPUs if nobody says another. */
export function defaultCpuCount(): number {
  return Math.min(CPU_COUNT_MAX, Math.max(CPU_COUNT_USUAL, availableParallelism()))
}

/** How often something is done whose time is shown as a median. */
export const ROUNDS = 25
