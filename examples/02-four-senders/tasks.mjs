// A handler for a vector of one's own. It belongs to the CPU that asks for it, runs there with
// interrupts off, and must be short.

import { sharedFunction, thisMachine } from 'interprocessor'

export const handle = sharedFunction('handle', ({ vector, received }) => {
  const machine = thisMachine()
  machine.requestIrq(vector, 'example', () => Atomics.add(received, machine.cpu.id, 1))
})
