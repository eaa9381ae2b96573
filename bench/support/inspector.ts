/** The bare way into a thread that does not look up: a session, and a message that evaluates a constant. */

import { Session } from 'node:inspector'

/** What a worker of `workers/cpu.ts` stamps with. */
const MESSAGE = JSON.stringify({
  id: 1,
  method: 'Runtime.evaluate',
  params: { expression: 'globalThis.benchStamp()', silent: true, disableBreaks: true },
})

/** A session of the main thread to one worker. */
export class BareInspector {
  readonly #session = new Session()
  #sessionId = ''

  /** Attaches to the worker of a thread number. */
  constructor(threadId: number) {
    this.#session.connect()
    this.#session.on('NodeWorker.attachedToWorker', ({ params }) => {
      const title = /worker (\d+)/i.exec(params.workerInfo.title)
      if (Number(title?.[1]) === threadId) this.#sessionId = params.sessionId
    })
    // The answers come back as interrupts, too: read by somebody, as ours are.
    this.#session.on('NodeWorker.receivedMessageFromWorker', () => undefined)
    this.#session.post('NodeWorker.enable', { waitForDebuggerOnStart: false })
    if (this.#sessionId === '') throw new Error(`no session to worker ${threadId}`)
  }

  /** Has the worker stamp, in the middle of what it does. */
  evaluate(): void {
    this.#session.post('NodeWorker.sendMessageToWorker', {
      sessionId: this.#sessionId,
      message: MESSAGE,
    })
  }

  /** Ends the session. */
  close(): void {
    this.#session.disconnect()
  }
}
