/** What a worker of the application's own imports to become a CPU. */

import { parentPort } from 'node:worker_threads'
import { IpiError } from './base/errors.ts'
import { attachOn, checkUnattached, findTicket } from './kernel/attach.ts'
import type { Machine } from './kernel/machine.ts'
import { isTicket, type Ticket } from './kernel/protocol.ts'
import { nodePlatform } from './platform/node.ts'

/** What a thread of the machine's own starts with. */
export const THREAD_SCRIPT: URL = new URL('./thread.js', import.meta.url)

export { sharedFunction, thisMachine } from './kernel/attach.ts'

/** How long `attach` waits for the machine to call, in milliseconds. */
const TICKET_MS = 10_000

/**
 * Makes the calling worker thread a CPU of the machine whose thread calls `machine.bringUp(worker)`.
 * Pass the worker's `workerData` or nothing. Resolves once the CPU is online. Messages that the
 * application posts meanwhile are handed on afterwards. Rejects with `IPI_ALREADY_BOOTED`,
 * `IPI_FOREIGN_MEMORY`, `IPI_LAYOUT_VERSION`, `IPI_BOOT_FAILED`, and `IPI_TIMEOUT` if nobody calls
 * within ten seconds.
 */
export async function attach(workerData?: unknown): Promise<Machine> {
  checkUnattached()
  const ticket = findTicket(workerData) ?? (await nextTicket())
  return attachOn(nodePlatform(THREAD_SCRIPT), ticket, () => undefined)
}

/** The ticket that `bringUp` posts. */
function nextTicket(): Promise<Ticket> {
  return new Promise((resolve, reject) => {
    const port = parentPort
    if (port === null) {
      reject(
        new IpiError('IPI_NOT_SUPPORTED', 'attach() is for worker threads; call boot() instead'),
      )
      return
    }
    const others: unknown[] = []
    const timer = setTimeout(() => {
      end()
      reject(
        new IpiError(
          'IPI_TIMEOUT',
          `no machine.bringUp(worker) within ${TICKET_MS} ms of attach()`,
          { waitedMs: TICKET_MS },
        ),
      )
    }, TICKET_MS)
    const onMessage = (message: unknown): void => {
      if (!isTicket(message)) {
        others.push(message)
        return
      }
      end()
      resolve(message)
    }
    const end = (): void => {
      clearTimeout(timer)
      port.off('message', onMessage)
      // Next turn: by then whoever awaited attach() has had time to listen.
      setImmediate(() => others.forEach((message) => port.emit('message', message)))
    }
    port.on('message', onMessage)
  })
}
