/** A client of another process's debugger: asks its threads, and leaves. */

import { once } from 'node:events'
import { get } from 'node:http'
import { WebSocket } from 'ws'

/** A thread of the other process. */
export interface RemoteThread {
  /** `main thread`, or `worker 3`, with its name and file as far as they are known. */
  readonly title: string
  /** Node's number of a worker; 0 for the main thread. */
  readonly number: number
  /** The session to a worker; none to the main thread, which is the client's own. */
  readonly sessionId?: string
}

/** What came of a question: its value, `undefined` if the thread did not answer, or has ended. */
export type Answer = { readonly value: unknown } | undefined

interface Reply {
  readonly id?: number
  readonly error?: unknown
  readonly result?: {
    readonly result?: { readonly value?: unknown }
    readonly exceptionDetails?: unknown
  }
  readonly method?: string
  readonly params?: Readonly<Record<string, unknown>>
}

const HTTP_MS_MAX = 1000
const MAIN_THREAD: RemoteThread = { title: 'main thread', number: 0 }

/** The address of the debugger that listens on a port of this host, if one does. */
export function findDebugger(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const options = { host: '127.0.0.1', port, path: '/json/list', timeout: HTTP_MS_MAX }
    const request = get(options, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.on('end', () => resolve(addressIn(text)))
    })
    request.on('error', () => resolve(undefined))
    request.on('timeout', () => request.destroy())
  })
}

function addressIn(text: string): string | undefined {
  try {
    const targets = JSON.parse(text) as readonly { readonly webSocketDebuggerUrl?: string }[]
    return targets[0]?.webSocketDebuggerUrl
  } catch {
    return undefined
  }
}

/** One connection to the debugger of a process. */
export class InspectorClient {
  readonly #socket: WebSocket
  readonly #threads: RemoteThread[] = [MAIN_THREAD]
  readonly #waiting = new Map<number, { sessionId?: string; settle: (reply?: Reply) => void }>()
  #lastId = 0
  #isInterrupted = false

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.on('message', (data: Buffer) => this.#onReply(JSON.parse(data.toString()) as Reply))
    socket.on('error', () => undefined)
    socket.on('close', () => this.#giveUp(() => true))
  }

  /** Rejects if nothing answers there. */
  static async connect(address: string, timeoutMs: number): Promise<InspectorClient> {
    const socket = new WebSocket(address, { handshakeTimeout: timeoutMs })
    const client = new InspectorClient(socket)
    await once(socket, 'open')
    return client
  }

  /** The threads that the process has now, by number. The debugger's domain NodeWorker attaches to all of them. */
  async threads(timeoutMs: number): Promise<readonly RemoteThread[]> {
    await this.#call('NodeWorker.enable', { waitForDebuggerOnStart: false }, timeoutMs)
    return this.#threads.toSorted((a, b) => a.number - b.number)
  }

  /**
   * Evaluates an expression in the middle of whatever a thread does. Not `Runtime.enable` and not
   * `Debugger.enable`: they would slow the process down.
   */
  async evaluate(thread: RemoteThread, expression: string, timeoutMs: number): Promise<Answer> {
    const params = {
      expression,
      silent: true,
      disableBreaks: true,
      returnByValue: true,
    }
    const { sessionId } = thread
    const reply = await this.#call('Runtime.evaluate', params, timeoutMs, sessionId)
    if (reply?.error !== undefined) {
      // Somebody ended the thread at that moment, and V8 has taken the end of the question for it.
      this.#send('Runtime.terminateExecution', {}, sessionId)
    }
    const result = reply?.result
    if (result === undefined || result.exceptionDetails !== undefined) return undefined
    return { value: result.result?.value }
  }

  /** Has the main thread evaluate an expression whose end nobody awaits. */
  tell(expression: string): void {
    this.#send('Runtime.evaluate', { expression, silent: true, includeCommandLineAPI: true })
  }

  /** Awaits no answer any more. */
  interrupt(): void {
    this.#isInterrupted = true
    this.#giveUp(() => true)
  }

  /** Leaves the process; resolves when it knows. */
  async close(timeoutMs: number): Promise<void> {
    if (this.#socket.readyState === WebSocket.CLOSED) return
    this.#socket.close()
    const timer = setTimeout(() => this.#socket.terminate(), timeoutMs)
    await once(this.#socket, 'close')
    clearTimeout(timer)
  }

  #call(
    method: string,
    params: object,
    timeoutMs: number,
    sessionId?: string,
  ): Promise<Reply | undefined> {
    return new Promise((resolve) => {
      const id = this.#send(method, params, sessionId)
      const timer = setTimeout(() => this.#settle(id), timeoutMs)
      const settle = (reply?: Reply): void => {
        clearTimeout(timer)
        resolve(reply)
      }
      this.#waiting.set(id, { ...(sessionId === undefined ? {} : { sessionId }), settle })
      const isOver = this.#isInterrupted || this.#socket.readyState !== WebSocket.OPEN
      if (isOver) this.#settle(id)
    })
  }

  #send(method: string, params: object, sessionId?: string): number {
    const id = ++this.#lastId
    const message = JSON.stringify({ id, method, params })
    if (sessionId === undefined) {
      if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(message)
    } else {
      this.#send('NodeWorker.sendMessageToWorker', { sessionId, message })
    }
    return id
  }

  #settle(id: number, reply?: Reply): void {
    this.#waiting.get(id)?.settle(reply)
    this.#waiting.delete(id)
  }

  #giveUp(isMeant: (sessionId: string | undefined) => boolean): void {
    for (const [id, { sessionId }] of this.#waiting) if (isMeant(sessionId)) this.#settle(id)
  }

  #onReply(reply: Reply): void {
    const { id, method, params = {} } = reply
    if (id !== undefined) this.#settle(id, reply)
    else if (method === 'NodeWorker.receivedMessageFromWorker') {
      const inner = JSON.parse(String(params['message'])) as Reply
      if (inner.id !== undefined) this.#settle(inner.id, inner)
    } else if (method === 'NodeWorker.attachedToWorker') {
      const { title, url } = params['workerInfo'] as { title: string; url: string }
      this.#threads.push({ ...nameOf(title, url), sessionId: String(params['sessionId']) })
    } else if (method === 'NodeWorker.detachedFromWorker') {
      this.#giveUp((sessionId) => sessionId === params['sessionId'])
    }
  }
}

/** Of "[worker 3] name", where some versions have neither brackets nor name. */
function nameOf(title: string, url: string): { title: string; number: number } {
  const [, number = '?', name = ''] = /^\[?worker (\d+)\]?:?\s*(.*)$/i.exec(title) ?? []
  const known = [name === '' ? '' : `"${name}"`, url].filter((part) => part !== '')
  return { title: [`worker ${number}`, ...known].join(' '), number: Number(number) }
}
