/**
 * A set whose members know their place in it. Adding and removing are two steps each and leave no
 * garbage: a `Set` with a lively membership makes tables all the time that outlive many collections.
 */

/** What can be in a bag; in one at a time. */
export interface BagMember {
  /** Its place in the bag, -1 outside. Written by the bag. */
  place: number
}

/** An unordered set. Iterating visits who was in it at the beginning and is so yet. */
export class Bag<T extends BagMember> implements Iterable<T> {
  readonly #members: T[] = []

  /** How many members there are. */
  get size(): number {
    return this.#members.length
  }

  /** Whether `member`, of this bag or of none, is in it. */
  has(member: T): boolean {
    return member.place >= 0
  }

  /** Adds one that is in no bag. */
  add(member: T): void {
    member.place = this.#members.push(member) - 1
  }

  /** Removes one; gives whether it was there. The last takes its place. */
  delete(member: T): boolean {
    const { place } = member
    if (place < 0) return false
    member.place = -1
    const last = this.#members.pop()!
    if (last !== member) {
      this.#members[place] = last
      last.place = place
    }
    return true
  }

  /** The members. Some may be removed meanwhile. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (const member of this.#members.slice()) if (this.has(member)) yield member
  }
}
