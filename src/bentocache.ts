/** `interprocessor/bentocache`: a bus between threads for bentocache. */

import { sharedFunction, type Machine } from './index.ts'
import { hearPublication, Transport, type ThreadBus } from './services/thread-bus.ts'

export type { ThreadBus, ThreadTransport } from './services/thread-bus.ts'

const hear = sharedFunction('interprocessor.hear', hearPublication)

/**
 * A bus driver for bentocache: `bentostore().useL1Layer(…).useBus(threadBus(machine))`, in every thread. What
 * it publishes every thread has heard when that resolves. A thread hears in an interrupt, at its next
 * safepoint or turn of the event loop; listeners of the cache's events run there too, so they must not
 * wait. If one does not hear in time, bentocache logs it and tries again.
 */
export function threadBus(machine: Machine): ThreadBus {
  return { options: {}, factory: () => new Transport(machine, hear.sharedName) }
}
