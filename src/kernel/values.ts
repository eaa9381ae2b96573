/**
 * How values travel with a request: small plain ones in the slot itself, all others through the
 * message port that joins the two CPUs. Every pair of CPUs has a port of its own, so no value takes
 * a way through a third thread.
 */

import { Codec } from '../base/codec.ts'
import { IpiError } from '../base/errors.ts'
import { CPU, SLOT } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import type { Port } from '../hardware/platform.ts'
import { BOOT_CPU, type PortMessage } from './protocol.ts'

/** SLOT.payloadBytes of a value that travels by port. */
const BY_PORT = -1
/** Which half of a call a value belongs to. */
export type Half = 'info' | 'result' | 'taskInfo' | 'taskResult' | 'taskReport'

/** The port to a CPU, and the values that came through it before their turn. */
interface Link {
  readonly port: Port
  /** Which life of the CPU it leads to. */
  readonly incarnation: number
  readonly early: Map<string, unknown>
  /** The last report that came through it. */
  report: unknown
  /** What tasks have reported of themselves, in order. */
  progress: { readonly ticket: number; readonly value: unknown }[]
}

/** One CPU's values. Private to its thread. */
export class Values {
  readonly #memory: MachineMemory
  readonly #adopt: (transferred: unknown) => Port
  readonly #codec: Codec
  readonly #limit: number
  readonly #links = new Map<number, Link>()
  #draining = false

  constructor(memory: MachineMemory, adopt: (transferred: unknown) => Port) {
    this.#memory = memory
    this.#adopt = adopt
    this.#codec = new Codec(memory.bytes)
    this.#limit = (memory.slotWords - SLOT.payload) * Int32Array.BYTES_PER_ELEMENT
  }

  /** Joins this CPU to the present life of another; closes the port to an earlier one. */
  setPort(cpu: number, port: Port): void {
    this.dropPort(cpu)
    this.#links.set(cpu, {
      port,
      incarnation: this.#incarnation(cpu),
      early: new Map(),
      report: undefined,
      progress: [],
    })
  }

  /** Closes the port to a CPU that is gone. */
  dropPort(cpu: number): void {
    this.#links.get(cpu)?.port.close()
    this.#links.delete(cpu)
  }

  /** Hands a CPU its end of a channel to another: the boot CPU's part of a bring-up. */
  introduce(cpu: number, other: number, port: Port): void {
    const message: PortMessage = { kind: 'port', cpu: other, port: port.transferable }
    this.#links.get(cpu)?.port.send(message, [port.transferable])
  }

  /** Closes every port. */
  close(): void {
    for (const cpu of this.#links.keys()) this.dropPort(cpu)
  }

  /**
   * Puts a value into a slot for `peer`. Must come before the request is published or completed:
   * whoever sees that finds the value. Throws `IPI_UNCLONEABLE`, leaving nothing behind.
   */
  put(slot: number, peer: number, half: Half, ticket: number, value: unknown): void {
    const { words } = this.#memory
    const at = this.#memory.slot(slot)
    if (value === undefined) {
      words[at + SLOT.payloadBytes] = 0
      return
    }
    const bytes = this.#codec.encode(value, (at + SLOT.payload) * 4, this.#limit)
    words[at + SLOT.payloadBytes] = bytes
    if (bytes === BY_PORT) this.send(peer, half, ticket, value)
  }

  /** Sends a value by port: must come before what it belongs to is published. Throws as `put` does. */
  send(
    peer: number,
    half: Half,
    ticket: number,
    value: unknown,
    transfer?: readonly unknown[],
  ): void {
    const link = this.#link(peer)
    if (link === undefined) {
      throw new IpiError(
        'IPI_CPU_OFFLINE',
        `CPU ${peer} is not online, and the value needs its message port: it is too large or not ` +
          'plain enough for shared memory',
        { cpu: peer },
      )
    }
    try {
      link.port.send({ kind: 'value', half, ticket, value } satisfies PortMessage, transfer)
    } catch (cause) {
      const what = half === 'info' || half === 'taskInfo' ? 'argument' : 'result'
      throw new IpiError(
        'IPI_UNCLONEABLE',
        `the ${what} cannot be cloned to CPU ${peer}: ` +
          `${cause instanceof Error ? cause.message : String(cause)}; pass plain data, typed ` +
          'arrays, or a SharedArrayBuffer',
        { cpu: peer, cause },
      )
    }
  }

  /** Takes the value of a slot. Every value is taken exactly once. */
  take(slot: number, peer: number, half: Half, ticket: number): unknown {
    const at = this.#memory.slot(slot)
    const bytes = this.#memory.words[at + SLOT.payloadBytes]!
    if (bytes === 0) return undefined
    if (bytes !== BY_PORT) return this.#codec.decode((at + SLOT.payload) * 4)
    return this.receive(peer, half, ticket)
  }

  /** Forgets a value that nobody will take. */
  drop(slot: number, peer: number, half: Half, ticket: number): void {
    if (this.#memory.words[this.#memory.slot(slot) + SLOT.payloadBytes] === BY_PORT) {
      this.receive(peer, half, ticket)
    }
  }

  /**
   * Sends a report to a CPU, if there is a way. May be called in an NMI: if it came while messages were
   * taken in, no port is looked for where new ones wait.
   */
  sendReport(peer: number, report: unknown): void {
    const link = this.#draining ? this.#known(peer) : this.#link(peer)
    try {
      link?.port.send({ kind: 'report', report } satisfies PortMessage)
    } catch {
      // The asker's thread is gone, and its port with it: nobody will read this.
    }
  }

  /** The last report that a CPU has sent, once. Sent before its sender said so, it is here. */
  takeReport(peer: number): unknown {
    const link = this.#link(peer)
    if (link === undefined) return undefined
    this.#drain(link)
    const { report } = link
    link.report = undefined
    return report
  }

  /** Takes what the tasks that a CPU runs have reported of themselves. */
  takeProgress(peer: number, each: (ticket: number, value: unknown) => void): void {
    const link = this.#known(peer)
    if (link === undefined) return
    this.#drain(link)
    for (const { ticket, value } of link.progress.splice(0)) each(ticket, value)
  }

  /** Takes a value that came by port. Its sender posted before it published, so the message is here. */
  receive(peer: number, half: Half, ticket: number): unknown {
    const link = this.#link(peer)
    const key = `${half}${ticket}`
    if (link !== undefined) {
      if (!link.early.has(key)) this.#drain(link, key)
      if (link.early.has(key)) {
        const value = link.early.get(key)
        link.early.delete(key)
        return value
      }
    }
    throw new IpiError('IPI_CPU_DIED', `the value that CPU ${peer} sent went down with it`, {
      cpu: peer,
    })
  }

  /** Takes in what has come through a port, until `wanted` is among it. */
  #drain(link: Link, wanted?: string): void {
    this.#draining = true
    try {
      this.#takeIn(link, wanted)
    } finally {
      this.#draining = false
    }
  }

  #takeIn(link: Link, wanted: string | undefined): void {
    const { port, early } = link
    for (let message = port.receive(); message !== undefined; message = port.receive()) {
      const received = message.value as PortMessage
      if (received.kind === 'port') {
        this.setPort(received.cpu, this.#adopt(received.port))
        continue
      }
      if (received.kind === 'report') {
        link.report = received.report
        continue
      }
      if (received.half === 'taskReport') {
        link.progress.push(received)
        continue
      }
      const key = `${received.half}${received.ticket}`
      early.set(key, received.value)
      if (key === wanted) return
    }
  }

  /** The port to the present life of a CPU. A new one waits in the port of the boot CPU. */
  #link(cpu: number): Link | undefined {
    const known = this.#known(cpu)
    if (known !== undefined) return known
    const boot = this.#links.get(BOOT_CPU)
    if (boot !== undefined) this.#drain(boot)
    return this.#known(cpu)
  }

  #known(cpu: number): Link | undefined {
    const known = this.#links.get(cpu)
    return known?.incarnation === this.#incarnation(cpu) ? known : undefined
  }

  #incarnation(cpu: number): number {
    return this.#memory.readCpu(cpu, CPU.incarnation)
  }
}
