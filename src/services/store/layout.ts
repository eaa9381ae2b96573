/**
 * The map of a shared store: a header, a line for each CPU that reads, the heads of the chains, and the
 * heap. Offsets are in 32-bit words.
 */

import { LINE_WORDS } from '../../hardware/layout.ts'
import { compareExchange, load, store, type SharedWords } from '../../hardware/memory.ts'

/** "IPIS" in ASCII. */
const MAGIC = 0x49504953

/** The smallest block, in powers of two words: one cache line. */
export const ORDER_MIN = 4
/** The largest: half a gigabyte of it would be too much for the numbers that say where blocks are. */
export const ORDER_MAX = 27
/** One chain for so many words of the heap: about the size of two small entries. */
const WORDS_PER_BUCKET = 32

/** The header. */
export const STORE = {
  /** MAGIC, once the rest of the line is written. Whoever comes first writes it. */
  magic: 0,
  cpuCount: 1,
  wordCount: 2,
  bucketCount: 3,
  /** Robust lock of those who write. */
  lock: LINE_WORDS,
  /** What follows belongs to the holder of the lock; all but `sequence` is plain. */
  /** 1 while a writer is at it: found by whoever takes the lock of a dead one. */
  busy: 2 * LINE_WORDS,
  /** Odd, and 2 more with every write; readers load it when they begin. */
  sequence: 2 * LINE_WORDS + 1,
  /** How often it has gone through its range. */
  sequenceHigh: 2 * LINE_WORDS + 2,
  /** How many keys there are, and how many words their blocks take. */
  count: 2 * LINE_WORDS + 3,
  usedWords: 2 * LINE_WORDS + 4,
  /** The first word that no block has had yet. */
  top: 2 * LINE_WORDS + 5,
  /** Blocks that readers may still look at, oldest first. */
  retiredFirst: 2 * LINE_WORDS + 6,
  retiredLast: 2 * LINE_WORDS + 7,
  retiredCount: 2 * LINE_WORDS + 8,
  /** Free blocks, by order. */
  free: 3 * LINE_WORDS,
} as const

const HEADER_WORDS = STORE.free + 2 * LINE_WORDS

/** A reader's line. */
export const READER = {
  /** The sequence at which it began to read, 0 while it does not. */
  sequence: 0,
  /** Which life of the CPU this is. */
  life: 1,
} as const

/** A block of the heap. Readers may look at what is not marked, as long as they read. */
export const BLOCK = {
  /** The next of its chain, 0 at its end. Atomic: the one word that changes under readers. */
  next: 0,
  /** Its order, and FREE. The heap's: always valid, whoever dies. */
  order: 1,
  hash: 2,
  /** The next free or retired block. The heap's. */
  link: 3,
  /** Free: the one before. Retired: the sequence from which on no reader finds it. The heap's. */
  back: 4,
  /** Bytes of the key, and from bit 24 on how the value is written. */
  key: 5,
  valueBytes: 6,
  /** The sequence of the write, and how often it had gone through its range. */
  version: 7,
  versionHigh: 8,
  /** The key's bytes, then the value's. */
  payload: 9,
} as const

/** In the word of the order: nobody has the block. */
export const FREE = 1 << 8

/** Where things are in one store. */
export interface StoreMap {
  readonly words: SharedWords
  readonly bytes: Uint8Array<SharedArrayBuffer>
  readonly cpuCount: number
  readonly bucketCount: number
  /** The first words of the readers' lines, of the heads, and of the heap; the first behind it. */
  readonly readers: number
  readonly buckets: number
  readonly heap: number
  readonly end: number
}

/** The smallest store for so many CPUs, in words. */
export function storeWordsMin(cpuCount: number): number {
  return HEADER_WORDS + cpuCount * LINE_WORDS + 64 * LINE_WORDS
}

/** Lays the map over memory that is a store already, or is all 0 and becomes one. */
export function mapStore(words: SharedWords, cpuCount: number): StoreMap {
  const readers = HEADER_WORDS
  const buckets = readers + cpuCount * LINE_WORDS
  const bucketCount = Math.max(
    LINE_WORDS,
    2 ** Math.floor(Math.log2((words.length - buckets) / WORDS_PER_BUCKET)),
  )
  const heap = buckets + bucketCount
  // Several may do this at once: all write the same, and only one of them the first values.
  words[STORE.cpuCount] = cpuCount
  words[STORE.wordCount] = words.length
  words[STORE.bucketCount] = bucketCount
  compareExchange(words, STORE.top, 0, heap)
  compareExchange(words, STORE.sequence, 0, 1)
  store(words, STORE.magic, MAGIC)
  return {
    words,
    bytes: new Uint8Array(words.buffer, words.byteOffset, words.byteLength),
    cpuCount,
    bucketCount,
    readers,
    buckets,
    heap,
    end: words.length,
  }
}

/** Whether memory is a store of another shape than this one would have. */
export function isForeign(words: SharedWords, cpuCount: number): boolean {
  return load(words, STORE.magic) === MAGIC && words[STORE.cpuCount] !== cpuCount
}
