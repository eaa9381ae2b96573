import { sharedFunction, thisMachine } from 'interprocessor'

export const watch = sharedFunction('watch', () => {
  thisMachine().on('violation', ({ rule, name }) =>
    console.log(`${name} breaks the rule "${rule}"`),
  )
})

// A lock of the program, and a task that holds it for a while without a safepoint.
const lock = new Int32Array(new SharedArrayBuffer(4))
let holding = false

export const startHolding = sharedFunction('startHolding', () => {
  setImmediate(() => {
    Atomics.compareExchange(lock, 0, 0, 1)
    holding = true
    for (const end = Date.now() + 2000; holding && Date.now() < end;);
    Atomics.store(lock, 0, 0)
    console.log('the task goes on, and lets go of its lock')
  })
})
export const isHolding = sharedFunction('isHolding', () => holding, { interruptSafe: true })
export const stopHolding = sharedFunction('stopHolding', () => void (holding = false), {
  interruptSafe: true,
})

const safe = { interruptSafe: true } // They say so, and are not.

// The task that holds the lock goes on when this has returned, and this waits for the task.
export const takesLock = sharedFunction(
  'takesLock',
  () => {
    while (Atomics.compareExchange(lock, 0, 0, 1) !== 0) Atomics.wait(lock, 0, 1)
  },
  safe,
)

// This tries, and gives up: its caller may ask again.
export const triesLock = sharedFunction(
  'triesLock',
  () => {
    if (Atomics.compareExchange(lock, 0, 0, 1) !== 0) return 'later'
    Atomics.store(lock, 0, 0)
    return 'now'
  },
  safe,
)

// What comes after the await comes after the interrupt, and its error reaches nobody.
export const awaits = sharedFunction('awaits', () => Promise.resolve().then(() => 'too late'), safe)

// Interrupts are off meanwhile: whatever else this thread was sent waits.
export const sleeps = sharedFunction('sleeps', () => void Atomics.wait(lock, 0, 0, 1), safe)
export const computes = sharedFunction('computes', () => {
  for (const end = performance.now() + 20; performance.now() < end;);
})

// The task may be inside setTimeout, in the middle of its list.
export const setsTimer = sharedFunction('setsTimer', () => void setTimeout(() => {}, 1), safe)
