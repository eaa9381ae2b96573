/** FNV-1a, the 32-bit hash of Fowler, Noll and Vo: http://www.isthe.com/chongo/tech/comp/fnv/. */

/** The hash of nothing: what a hash begins with. */
export const FNV_OFFSET = 0x811c9dc5

/** One unit more: a byte, or a code unit of a string. Gives a signed word. */
export function fnv1a(hash: number, unit: number): number {
  return Math.imul(hash ^ unit, 0x01000193)
}
