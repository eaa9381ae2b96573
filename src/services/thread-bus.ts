/**
 * A bus for bentocache between the threads of a machine. What it publishes has been heard by every thread
 * when the promise resolves; so `await cache.delete({ key })` means that no thread has a copy any more.
 */

import { isIpiError } from '../base/errors.ts'
import type { Machine } from '../kernel/machine.ts'
import { hear } from './hearing.ts'

/** What bentocache tells other instances: JSON. */
type Message = unknown
type Handler = (message: never) => unknown

/** A transport, as the package @boringnode/bus has them. */
export interface ThreadTransport {
  setId(id: string): ThreadTransport
  onReconnect(callback: () => void): void
  publish(channel: string, message: Message): Promise<void>
  subscribe(channel: string, handler: Handler): Promise<void>
  unsubscribe(channel: string): Promise<void>
  disconnect(): Promise<void>
}

/** What `useBus` of bentocache takes. */
export interface ThreadBus {
  readonly options: Readonly<Record<string, never>>
  factory(): ThreadTransport
}

/** The transports of this thread. */
const transports = new Set<Transport>()

/** What one thread publishes. */
export interface Publication {
  readonly channel: string
  readonly message: Message
}

/** Takes what another thread has published. */
export function hearPublication({ channel, message }: Publication): void {
  hear(() => {
    for (const transport of transports) transport.deliver(channel, message)
  })
}

/** One bus of this thread. */
export class Transport implements ThreadTransport {
  readonly #machine: Machine
  /** The shared name of hearPublication. */
  readonly #hear: string
  readonly #handlers = new Map<string, Handler>()

  constructor(machine: Machine, hearName: string) {
    this.#machine = machine
    this.#hear = hearName
    transports.add(this)
  }

  /** It needs no name: what it publishes it does not deliver to itself. */
  setId(): this {
    return this
  }

  /** It never loses its connection. */
  onReconnect(): void {}

  async publish(channel: string, message: Message): Promise<void> {
    const publication: Publication = { channel, message }
    for (const transport of transports) {
      if (transport !== this) transport.deliver(channel, message)
    }
    try {
      await this.#machine.smpCallFunction(this.#hear, publication)
    } catch (error) {
      if (!wasHeardByAll(error)) throw error
    }
  }

  async subscribe(channel: string, handler: Handler): Promise<void> {
    this.#handlers.set(channel, handler)
  }

  async unsubscribe(channel: string): Promise<void> {
    this.#handlers.delete(channel)
  }

  async disconnect(): Promise<void> {
    transports.delete(this)
  }

  /** Gives a message to whoever has subscribed. */
  deliver(channel: string, message: Message): void {
    this.#handlers.get(channel)?.(message as never)
  }
}

/** Threads that are gone hold no copies, and those that do not know the function never made a bus. */
function wasHeardByAll(error: unknown): boolean {
  if (!isIpiError(error) || error.errors === undefined) return false
  return [...error.errors.values()].every(
    (each) => isIpiError(each) && HARMLESS.includes(each.code),
  )
}

const HARMLESS: readonly string[] = ['IPI_UNKNOWN_FUNCTION', 'IPI_CPU_DIED']
