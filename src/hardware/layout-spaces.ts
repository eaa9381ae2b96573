/**
 * The memory map, what belongs to address spaces: records, types of keys, flush logs, and what each
 * CPU says of its copies. Part of the one map, src/hardware/layout.ts: a change here is a change of
 * LAYOUT_VERSION.
 */

/** Words in a cache line of 64 bytes. */
export const LINE_WORDS = 16

/** How many address spaces a machine can know. */
export const MM_COUNT_MAX = 64
/** Words of one address-space record. */
export const MM_WORDS = 16
/** Record 0 of the address-space table: the kernel's own space, `init_mm`. */
export const INIT_MM = 0

/** How many ranges of keys, of all address spaces together, can have a memory type of their own. */
export const TYPE_COUNT_MAX = 64
/** Words of one such range. */
export const TYPE_WORDS = 16

/** One record of the address-space table. */
export const MM = {
  /** The name's hash, two words, 0 while free. Each is claimed by compare-and-swap. */
  name: 0,
  /** `cpu_vm_mask`: CPUs that must receive flush interrupts for it. Atomic or/and. */
  cpuVmMask: 8,
} as const

/** A range of keys with a memory type of its own. Written in rendezvous, by every CPU alike. */
export const TYPE = {
  /** 1 + the address space, 0 while free. */
  space: 0,
  /** The type from bit 8 on; below, what kind of range it is: kernel/key-range.ts. */
  kind: 1,
  /** Numbers: the first, and the first behind. Strings: how long the prefix is, and its units. */
  bounds: 2,
} as const

/** How many keys of one address space can be broken at once: see kernel/mm.ts. */
export const BROKEN_COUNT = 64
/** Words of one broken key: who broke it, and what hash it has. */
export const BROKEN_WORDS = 2
/** How many fills of one address space can be under way for all threads together. */
export const FILL_LOCK_COUNT = 32

/** The log of one address space. A line of its own for what every look-up reads. */
export const SPACE = {
  /** The last generation whose record may be read. Raised by compare-and-swap. */
  published: 0,
  /** The last generation that a writer has taken. Writers add. */
  reserved: LINE_WORDS,
  /** How often `reserved` has gone through a quarter of its range. Writers add. */
  quarters: LINE_WORDS + 1,
  /** Broken keys: holder as in kernel/robust-lock.ts, by compare-and-swap, and hash. */
  broken: 2 * LINE_WORDS,
  /** Robust locks of fills, by the hash of the key. */
  fillLocks: 2 * LINE_WORDS + BROKEN_COUNT * BROKEN_WORDS,
  /** For each of them the hash of the key that is being filled. The lock's holder writes. */
  fillHashes: 2 * LINE_WORDS + BROKEN_COUNT * BROKEN_WORDS + FILL_LOCK_COUNT,
  /** The records, RECORD. */
  log: 2 * LINE_WORDS + BROKEN_COUNT * BROKEN_WORDS + 2 * FILL_LOCK_COUNT,
} as const

/** One record of a flush log. */
export const RECORD = {
  /** Twice the generation if the record stands; odd while somebody writes it. Compare-and-swap. */
  commit: 0,
  /** What is flushed; kernel/flush-log.ts names the kinds. */
  kind: 1,
  /** The hash of a key or a tag, or the first page of a range and the one behind its last. */
  from: 2,
  to: 3,
} as const
/** Words of one record. */
export const RECORD_WORDS = 4

/** What a CPU says of its copies of one address space: one line of its TLB page. */
export const TLB = {
  /** One of TLB_STATE. The owner writes; whoever buries it. */
  state: 0,
  /** The last generation that the owner has applied. */
  ack: 1,
  /** The same, written at turns of its event loop only. */
  turnAck: 2,
  /** Somebody waits for the owner: see `waiters`. Waiters store 1; the owner exchanges. */
  awaited: 3,
  /** Who waits, MASK_WORDS words. Waiters or; the owner exchanges. */
  waiters: 8,
} as const

/** How a CPU stands to an address space. */
export const TLB_STATE = {
  /** It has no copies. */
  off: 0,
  /** It looks at the generation before every look-up, and may be asked to look now. */
  active: 1,
  /** It catches up before its next look-up; no code below it has read anything. */
  lazy: 2,
  /** The same, in the middle of a turn of its event loop. */
  lazyBlocked: 3,
} as const
