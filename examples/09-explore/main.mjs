// A mutex on a futex, as it is often written, and the schedule in which it sleeps for ever. The
// programs are generators: what they yield is an access to shared memory, and the explorer decides
// who goes on at each of them.

import { Exhaustive, explore, formatFailure } from 'interprocessor/testing'

const LOCK = 0 // 0 free, 1 taken, 2 taken and perhaps somebody sleeps

function* lock(bus, takes) {
  let state = yield bus.compareExchange(LOCK, 0, 1)
  while (state !== 0) {
    if (state === 2 || (yield bus.compareExchange(LOCK, 1, 2)) !== 0) yield bus.wait(LOCK, 2)
    state = yield bus.compareExchange(LOCK, 0, takes)
  }
}

function* unlock(bus) {
  if ((yield bus.exchange(LOCK, 0)) === 2) yield bus.notify(LOCK, 1)
}

/** Three threads, each once through the lock. Who slept takes it as `takes`. */
const mutex = (takes) => ({
  name: `who slept takes the lock as ${takes}`,
  words: 1,
  nameOf: () => 'lock',
  setup: (memory) => {
    let inside = 0
    const thread = function* (bus) {
      yield* lock(bus, takes)
      inside++
      yield bus.load(LOCK) // whatever one does in there
      inside--
      yield* unlock(bus)
    }
    return {
      cpus: [thread, thread, thread],
      invariant: () => (inside > 1 ? 'two are inside' : undefined),
      atEnd: () => (memory[LOCK] === 0 ? undefined : 'the lock is taken'),
    }
  },
})

for (const takes of [2, 1]) {
  const scenario = mutex(takes)
  const { runs, exhausted, failure } = explore(scenario, new Exhaustive())
  if (failure !== undefined) console.log(formatFailure(scenario, failure))
  else console.log(`${scenario.name}: right, ${runs} schedules, all there are: ${exhausted}`)
}
