/**
 * A mutex on a futex, Ulrich Drepper, "Futexes Are Tricky", mutex2: 0 free, 1 taken, 2 taken and
 * perhaps somebody sleeps. And the mistakes that are easily made with it.
 */

import type { Access, Bus, Scenario } from '../../src/testing.ts'

/** What is wrong with a mutex. */
export type Mistake =
  | 'none'
  /** Who was asleep takes the lock as if nobody else were: the next sleeper is forgotten. */
  | 'takes 1 after sleeping'
  /** The lock is looked at, and taken in a second step. */
  | 'looks and then takes'
  /** Whoever unlocks wakes nobody. */
  | 'wakes nobody'

const LOCK = 0
/** How many are inside: written plainly, by whoever believes that it is alone. */
const INSIDE = 1

function* lock(bus: Bus, mistake: Mistake): Generator<Access, void, number> {
  if (mistake === 'looks and then takes') {
    while ((yield bus.load(LOCK)) !== 0) yield bus.pause()
    yield bus.store(LOCK, 1)
    return
  }
  let state = yield bus.compareExchange(LOCK, 0, 1)
  while (state !== 0) {
    if (state === 2 || (yield bus.compareExchange(LOCK, 1, 2)) !== 0) yield bus.wait(LOCK, 2)
    state = yield bus.compareExchange(LOCK, 0, mistake === 'takes 1 after sleeping' ? 1 : 2)
  }
}

function* unlock(bus: Bus, mistake: Mistake): Generator<Access, void, number> {
  const state = yield bus.exchange(LOCK, 0)
  if (state === 2 && mistake !== 'wakes nobody') yield bus.notify(LOCK, 1)
}

/** Each of `cpus` goes through the lock `rounds` times. */
export function mutex(cpus: number, rounds: number, mistake: Mistake): Scenario {
  return {
    name: `mutex, ${cpus} CPUs, mistake: ${mistake}`,
    words: 2,
    nameOf: (at) => (at === LOCK ? 'lock' : 'inside'),
    setup: (memory) => ({
      cpus: Array.from(
        { length: cpus },
        () =>
          function* (bus) {
            for (let i = 0; i < rounds; i++) {
              yield* lock(bus, mistake)
              yield bus.add(INSIDE, 1)
              yield bus.add(INSIDE, -1)
              yield* unlock(bus, mistake)
            }
          },
      ),
      invariant: () => (memory[INSIDE]! > 1 ? `${memory[INSIDE]} are inside` : undefined),
      atEnd: () => (memory[LOCK] === 0 ? undefined : `the lock is ${memory[LOCK]}`),
    }),
  }
}
