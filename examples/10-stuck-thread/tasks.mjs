import { sharedFunction } from 'interprocessor'

let rounds = 0
let busy = true

function compute() {
  while (busy) rounds++ // no safepoint: nobody is let in
}

export const start = sharedFunction('start', () => void setImmediate(compute))

// Short, synchronous, and nothing of it is half done in the loop: it may run in the middle of that.
export const stop = sharedFunction(
  'stop',
  () => {
    busy = false
    return rounds > 0
  },
  { interruptSafe: true },
)
