/** The bare measure of two threads on two processors: a store and a spinning load on both sides. */

import { noAnswer, spinUntil, WORD, type Scratch } from './scratch.ts'

/** Round trips in one sample: reading the clock costs a third of a bare one. */
export const TRIPS = 16

/** Answers `trips` pings: the second thread's part. */
export function answerPings(scratch: Scratch, trips: number): void {
  const { words } = scratch
  for (let trip = 1; trip <= trips; trip++) {
    spinUntil(words, WORD.ping, trip, 'bare pong')
    Atomics.store(words, WORD.pong, trip)
  }
  Atomics.store(words, WORD.ping, 0)
}

/** Pings; gives the time of one round trip, `samples` times: the first thread's part. */
export function ping(scratch: Scratch, samples: number): number[] {
  const { words } = scratch
  const times: number[] = []
  let trip = 0
  for (let sample = 0; sample < samples; sample++) {
    const start = performance.now()
    for (const end = trip + TRIPS; trip < end;) {
      Atomics.store(words, WORD.ping, ++trip)
      spinUntil(words, WORD.pong, trip, 'bare ping')
    }
    times.push(((performance.now() - start) * 1e6) / TRIPS)
  }
  return times
}

/** Times something that takes less than a microsecond; gives nanoseconds, `samples` times. */
export function timeTrips(samples: number, once: () => void): number[] {
  const times: number[] = []
  for (let sample = 0; sample < samples; sample++) {
    const start = performance.now()
    for (let trip = 0; trip < TRIPS; trip++) once()
    times.push(((performance.now() - start) * 1e6) / TRIPS)
  }
  return times
}

/** Spins until `condition` holds, with a safepoint in each turn, as an application would. */
export function relaxUntil(condition: () => boolean, relax: () => void): void {
  let spins = 0
  while (!condition()) {
    relax()
    if (++spins > 1e9) noAnswer('an interrupt there and back')
  }
}
