/** The books of a shared store at rest, read from its memory. */

import {
  BLOCK,
  FREE,
  mapStore,
  ORDER_MAX,
  ORDER_MIN,
  STORE,
} from '../../src/services/store/layout.ts'

/**
 * What is wrong with a store that nobody writes to: every block is in one chain, free, or retired, no two
 * overlap, and the counts are those of the blocks. Undefined if nothing is.
 */
export function auditStore(words: Int32Array<SharedArrayBuffer>): string | undefined {
  const { heap, end, buckets, bucketCount } = mapStore(words, words[STORE.cpuCount]!)
  const top = words[STORE.top]!
  const owner = new Map<number, string>()
  const claim = (at: number, as: string): string | undefined => {
    const old = owner.get(at)
    owner.set(at, as)
    return old === undefined ? undefined : `block ${at} is ${old} and ${as}`
  }
  if (top > end) return `top ${top} is behind the end`
  if (words[STORE.lock] !== 0) return `the lock is held: ${words[STORE.lock]}`
  if (words[STORE.busy] !== 0) return 'somebody is at it'
  let count = 0
  for (let i = 0; i < bucketCount; i++) {
    for (let at = words[buckets + i]!; at !== 0; at = words[at + BLOCK.next]!) {
      count++
      const twice = claim(at, 'in a chain')
      if (twice !== undefined) return twice
      if ((words[at + BLOCK.hash]! & (bucketCount - 1)) !== i) return `block ${at} is in chain ${i}`
    }
  }
  for (let order = ORDER_MIN; order <= ORDER_MAX; order++) {
    let back = 0
    for (let at = words[STORE.free + order]!; at !== 0; at = words[at + BLOCK.link]!) {
      const twice = claim(at, 'free')
      if (twice !== undefined) return twice
      if (words[at + BLOCK.order] !== (order | FREE)) return `free block ${at} has another order`
      if (words[at + BLOCK.back] !== back) return `free block ${at} does not lead back`
      back = at
    }
  }
  let retired = 0
  for (let at = words[STORE.retiredFirst]!; at !== 0; at = words[at + BLOCK.link]!) {
    retired++
    const twice = claim(at, 'retired')
    if (twice !== undefined) return twice
  }
  let used = 0
  let at = heap
  for (let walked = 0; at < top; walked++) {
    const order = words[at + BLOCK.order]! & 0xff
    const as = owner.get(at)
    if (as === undefined) return `block ${at} is nobody's`
    if (order < ORDER_MIN || order > ORDER_MAX) return `block ${at} has order ${order}`
    if ((at - heap) % (1 << order) !== 0) return `block ${at} of order ${order} is not aligned`
    if (as === 'in a chain') used += 1 << order
    owner.delete(at)
    at += 1 << order
  }
  if (at !== top) return `the last block ends at ${at}, behind ${top}`
  if (owner.size > 0) return `${[...owner].join()} is within another block`
  if (count !== words[STORE.count]) return `${count} entries, and it says ${words[STORE.count]}`
  if (used !== words[STORE.usedWords]) return `${used} words, and it says ${words[STORE.usedWords]}`
  if (retired !== words[STORE.retiredCount]) return `${retired} retired`
  return undefined
}
