/** Bits of a 32-bit word, named once. All functions are pure and callable in any context. */

/** The index of the highest set bit of a nonzero word, 0..31. */
export function highestBit(word: number): number {
  return 31 - Math.clz32(word)
}

/** The index of the lowest set bit of a nonzero word, 0..31. */
export function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word)
}

/** How many bits of a 32-bit word are set. */
export function countBits(word: number): number {
  let rest = word - ((word >>> 1) & 0x55555555)
  rest = (rest & 0x33333333) + ((rest >>> 2) & 0x33333333)
  return Math.imul((rest + (rest >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}
