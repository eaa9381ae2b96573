/**
 * A bus between the threads of a machine, as bentocache wants one: what is published has been handled by every
 * other thread when the promise resolves. So what bentocache awaits when it deletes a key is that no other
 * thread has it.
 */

import type { Machine } from '../../kernel/machine.ts'

/** A message, as bentocache has it; structured clone must take it. */
type Message = unknown
/** Takes messages of its channel, which are what their publisher says they are. */
type Handler = (message: never) => unknown

/** What bentocache asks of a bus driver. */
export interface BusTransport {
  setId(id: string): BusTransport
  onReconnect(callback: () => void): void
  publish(channel: string, message: Message): Promise<void>
  subscribe(channel: string, handler: Handler): Promise<void>
  unsubscribe(channel: string): Promise<void>
  disconnect(): Promise<void>
}

/** What crosses to the other threads. */
interface Post {
  readonly channel: string
  readonly message: Message
}

const RECEIVE = 'interprocessor.bus'

/** The handlers of one thread, by channel, of all its buses. */
const handlers = new WeakMap<Machine, Map<string, Map<BusTransport, Handler>>>()

/** This thread's handlers; from the first call on it takes what others publish. */
function handlersOf(machine: Machine): Map<string, Map<BusTransport, Handler>> {
  let channels = handlers.get(machine)
  if (channels === undefined) {
    channels = new Map()
    handlers.set(machine, channels)
    machine.kernel.functions.register(RECEIVE, ({ channel, message }: Post) => {
      // A handler may be asynchronous: what drops copies it does before its first await.
      for (const handle of handlers.get(machine)?.get(channel)?.values() ?? [])
        void handle(message as never)
    })
  }
  return channels
}

class MachineBus implements BusTransport {
  readonly #machine: Machine

  constructor(machine: Machine) {
    this.#machine = machine
    handlersOf(machine)
  }

  setId(): this {
    return this
  }

  /** The machine does not lose its connection to itself. */
  onReconnect(): void {}

  async publish(channel: string, message: Message): Promise<void> {
    for (const [bus, handle] of handlersOf(this.#machine).get(channel) ?? []) {
      if (bus !== this) void handle(message as never)
    }
    // Who has no bus knows no such function, and has no copies; whoever dies takes its own along.
    const post: Post = { channel, message }
    const { onlineMask, cpu } = this.#machine
    await Promise.all(
      [...onlineMask.without(cpu.id)].map((each) =>
        this.#machine.smpCallFunctionSingle(each, RECEIVE, post).catch(ignoreAbsence),
      ),
    )
  }

  async subscribe(channel: string, handler: Handler): Promise<void> {
    const channels = handlersOf(this.#machine)
    const found = channels.get(channel)
    if (found === undefined) channels.set(channel, new Map([[this, handler]]))
    else found.set(this, handler)
  }

  async unsubscribe(channel: string): Promise<void> {
    handlersOf(this.#machine).get(channel)?.delete(this)
  }

  async disconnect(): Promise<void> {
    for (const subscribers of handlersOf(this.#machine).values()) subscribers.delete(this)
  }
}

const ABSENT: readonly unknown[] = ['IPI_UNKNOWN_FUNCTION', 'IPI_CPU_DIED', 'IPI_CPU_OFFLINE']

function ignoreAbsence(error: unknown): void {
  if (!ABSENT.includes((error as { readonly code?: unknown }).code)) throw error
}

/**
 * A bus driver for bentocache: `bentostore().useL1Layer(…).useBus(machineBus(machine))` in every thread.
 * What bentocache publishes rejects with `IPI_TIMEOUT` if a thread does not answer, and is tried again if
 * its retry queue is on.
 */
export function machineBus(machine: Machine): {
  readonly options: Record<string, never>
  readonly factory: () => BusTransport
} {
  return { options: {}, factory: () => new MachineBus(machine) }
}
