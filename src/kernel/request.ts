/**
 * Requests: the kernel's `call_single_data`. A slot of shared memory that one CPU fills, another
 * claims, runs and completes. Linux `kernel/smp.c`, `include/linux/smp_types.h`.
 *
 *            fill           push            claim             complete
 *     free ───────▶ queued ───────▶ (queue) ───────▶ running ───────────▶ done ──▶ free
 *                     │                                 │
 *                     ├── the initiator gives up ──▶ cancelled ── claim fails ──▶ done
 *                     ├── the target's thread ends ──────┴──▶ died
 *                     └── the target leaves in good order ──▶ left
 *
 * The slot belongs to the request, not to a thread: the kernel's LOCK bit is every state but `free`.
 * Each change of state is one compare-and-swap on `flags`, so whoever is late finds out. The flags
 * also hold the target and a sequence number: a thread that died while it walked its queue, and has
 * not noticed yet, cannot claim a slot that lives again.
 */

import { assert } from '../base/assert.ts'
import { SLOT } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { compareExchange, exchange, load, store, type SharedWords } from '../hardware/memory.ts'

/** States of a request: the low four bits of SLOT.flags. */
export const REQUEST_STATE = {
  free: 0,
  queued: 1,
  running: 2,
  done: 3,
  died: 4,
  cancelled: 5,
  /** The target left in good order before it could claim the request. */
  left: 6,
} as const

/** The other bits of SLOT.flags. */
export const REQUEST_FLAG = {
  stateMask: 0xf,
  /** Somebody waits until the function has run; without it, only until it has started. */
  wait: 0x10,
  /** The completer pushes the slot onto the initiator's completion list: nobody spins on it. */
  notify: 0x20,
  targetShift: 8,
  targetMask: 0xff00,
  sequenceShift: 16,
} as const

/** How a request ended: SLOT.status. */
export const REQUEST_STATUS = {
  /** The function ran, or was started; the payload is what it returned. */
  returned: 0,
  /** The function threw; the payload describes the error. */
  threw: 1,
  /** The target knows no such function. */
  unknownFunction: 2,
  /** The function returned a promise. */
  asyncFunction: 3,
  /** What the function returned cannot be cloned; the payload says why. */
  uncloneable: 4,
  /** The queue was closed before the push: the target was not online. */
  offline: 5,
} as const

/** A list head that takes no more: the CPU is not online. */
export const CLOSED = -1

/** SLOT.next of a filled slot that is on no list yet. */
export const UNPUSHED = -1

/** What a push found. */
export type PushResult = 'first' | 'queued' | 'closed'

/**
 * Pushes a slot onto a list. `llist_add`: 'first' means that the list was empty, and that the caller
 * is the one who must tell its owner. Publishes everything that was written to the slot before.
 *
 * A thread can be ended at a call or at the turn of a loop, so never between the link and the swap:
 * a slot that a dead thread left with another link than UNPUSHED is on the list.
 */
export function pushSlot(memory: MachineMemory, head: number, slot: number): PushResult {
  const { words } = memory
  const next = memory.slot(slot) + SLOT.next
  let expected = 0
  for (;;) {
    words[next] = expected
    const found = compareExchange(words, head, expected, slot + 1)
    if (found === expected) return expected === 0 ? 'first' : 'queued'
    words[next] = UNPUSHED
    if (found === CLOSED) return 'closed'
    expected = found
  }
}

/**
 * Takes a whole list: `llist_del_all`. Only its owner may, and only while the list is open. Gives
 * the link to the newest slot, for `slotsOldestFirst`.
 */
export function takeSlots(memory: MachineMemory, head: number): number {
  return exchange(memory.words, head, 0)
}

/** The slots of a taken list, oldest first: `llist_reverse_order`. All links are read at once. */
export function slotsOldestFirst(memory: MachineMemory, first: number, into: number[]): void {
  for (let link = first; link > 0; link = memory.words[memory.slot(link - 1) + SLOT.next]!) {
    into.push(link - 1)
  }
  into.reverse()
}

/** The state part of a flags word. */
export function stateOf(flags: number): number {
  return flags & REQUEST_FLAG.stateMask
}

/** The target part of a flags word. */
export function targetOf(flags: number): number {
  return (flags & REQUEST_FLAG.targetMask) >>> REQUEST_FLAG.targetShift
}

/** Which use of its slot a flags word belongs to. */
export function useOf(flags: number): number {
  return flags >>> REQUEST_FLAG.sequenceShift
}

/** Reads a request's flags. */
export function requestFlags(memory: MachineMemory, slot: number): number {
  return load(memory.words, memory.slot(slot) + SLOT.flags)
}

/**
 * Moves a request from one state to another; gives whether it was in the first, unchanged. Any
 * thread may try; one succeeds.
 */
export function transition(
  memory: MachineMemory,
  slot: number,
  flags: number,
  state: number,
  alsoSet = 0,
): boolean {
  const at = memory.slot(slot) + SLOT.flags
  const next = (flags & ~REQUEST_FLAG.stateMask) | state | alsoSet
  return compareExchange(memory.words, at, flags, next) === flags
}

/** The slots of one CPU, as their owner hands them out. Private to the owner's thread. */
export class RequestSlots {
  readonly #memory: MachineMemory
  readonly #words: SharedWords
  readonly #first: number
  readonly #source: number
  readonly #free: number[] = []
  #ticket = 0

  /**
   * Takes over the slots of CPU `source`. Slots that an earlier life of this CPU left with a target
   * that may still use them are not free yet: they are given to `inherit`, and come back by
   * `release` like any other.
   */
  constructor(memory: MachineMemory, source: number, inherit: (slot: number) => void) {
    this.#memory = memory
    this.#words = memory.words
    this.#source = source
    this.#first = source * memory.slotCount
    for (let i = memory.slotCount - 1; i >= 0; i--) {
      const slot = this.#first + i
      if (isReachable(requestFlags(memory, slot))) inherit(slot)
      else this.#free.push(slot)
    }
  }

  /** How many slots are free. */
  get freeCount(): number {
    return this.#free.length
  }

  /** Takes a free slot, or -1. */
  allocate(): number {
    return this.#free.pop() ?? -1
  }

  /** A number that pairs a request with the messages that belong to it. */
  nextTicket(): number {
    this.#ticket = (this.#ticket + 1) | 0
    return this.#ticket
  }

  /** Fills an allocated slot. The payload is written by the caller, before or after. */
  fill(slot: number, target: number, functionId: FunctionId, kind: number, ticket: number): void {
    const words = this.#words
    const at = this.#memory.slot(slot)
    words[at + SLOT.source] = this.#source
    words[at + SLOT.target] = target
    words[at + SLOT.function] = functionId.low
    words[at + SLOT.function + 1] = functionId.high
    words[at + SLOT.ticket] = ticket
    words[at + SLOT.next] = UNPUSHED
    const sequence = (words[at + SLOT.flags]! >>> REQUEST_FLAG.sequenceShift) + 1
    // Atomic, though the push publishes it: whoever buries the target scans flags from outside.
    store(
      words,
      at + SLOT.flags,
      (sequence << REQUEST_FLAG.sequenceShift) |
        (target << REQUEST_FLAG.targetShift) |
        kind |
        REQUEST_STATE.queued,
    )
  }

  /** Gives a slot back that no other thread can reach any more. */
  release(slot: number): void {
    const at = this.#memory.slot(slot) + SLOT.flags
    const flags = this.#words[at]!
    assert(stateOf(flags) !== REQUEST_STATE.free, 'a slot is freed once')
    // The sequence number stays: the next use must not look like this one.
    store(this.#words, at, flags & (-1 << REQUEST_FLAG.sequenceShift))
    this.#free.push(slot)
  }
}

/** Whether a thread other than the initiator's may still touch a request in this state. */
function isReachable(flags: number): boolean {
  switch (stateOf(flags)) {
    case REQUEST_STATE.free:
    case REQUEST_STATE.died:
    case REQUEST_STATE.left:
      return false
    case REQUEST_STATE.done:
      return (flags & REQUEST_FLAG.notify) !== 0
    default:
      return true
  }
}

/** A function's name as two words, see kernel/functions.ts. */
export interface FunctionId {
  readonly low: number
  readonly high: number
}
