/**
 * A shared store: keys and values in shared memory, for all threads of a machine. What a cache reads
 * through to if there is no database, and a Map that all threads have.
 *
 * Readers take no lock. An entry is a block that never changes once a chain leads to it; a write makes a
 * new one and puts it into the place of the old by one store. The old block is used again when no reader
 * can be in it: a reader says when it began, and a block says when it was taken out (as in McKenney's RCU;
 * Fraser, Practical Lock-Freedom, 5.2.3). Writers take a robust lock. Each of their steps leaves chains
 * that are right, so whoever takes the lock of a dead one only has to set up the books anew.
 */

import { IpiError } from '../../base/errors.ts'
import { CPU, CPU_STATE, LINE_WORDS } from '../../hardware/layout.ts'
import { load, store, type SharedWords } from '../../hardware/memory.ts'
import type { Cpu } from '../../kernel/cpu.ts'
import { RobustLock } from '../../kernel/robust-lock.ts'
import type { Waits } from '../../kernel/wait.ts'
import { StoreEncoder, type EncodedValue, type StoreKey } from './encoding.ts'
import { StoreHeap } from './heap.ts'
import { BLOCK, mapStore, READER, STORE, type StoreMap } from './layout.ts'

/** So many blocks may wait for readers before a writer looks whether they are still there. */
const RETIRED_MAX = 64
/** How long a writer that finds no room waits for those who read, in milliseconds. */
const READERS_MS = 200
/** How long a writer waits for another, in milliseconds: both are about microseconds of work. */
const WRITER_MS = 10_000
/** One more than the largest sequence, halved: what its overflow counts. */
const VERSIONS = 2 ** 31

/** A value, and which write it came from. */
export interface Versioned<Value> {
  readonly value: Value
  /** Later writes of the store have larger ones; 0 is no write. */
  readonly version: number
}

/** How full a store is. */
export interface StoreStats {
  readonly entries: number
  /** Bytes of the blocks in use; a block is a power of two. */
  readonly bytesUsed: number
  /** Bytes that have ever been in use: what the store takes of the machine's memory. */
  readonly bytesTouched: number
  /** Bytes that blocks can take in all. */
  readonly bytesMax: number
}

/** What a store stands on. */
export interface StoreParts {
  readonly cpu: Cpu
  readonly waits: Waits
}

/** One thread's view of a store. All of it may be called in tasks and in handlers, but not in NMIs. */
export class SharedStore<Value = unknown> {
  readonly #cpu: Cpu
  readonly #waits: Waits
  readonly #map: StoreMap
  readonly #words: SharedWords
  readonly #lock: RobustLock
  readonly #heap: StoreHeap
  readonly #encoder: StoreEncoder
  /** This CPU's line among the readers. */
  readonly #reader: number

  /** @internal `words` is all 0, or a store of this machine. */
  constructor({ cpu, waits }: StoreParts, words: SharedWords) {
    this.#cpu = cpu
    this.#waits = waits
    this.#map = mapStore(words, cpu.memory.cpuCount)
    this.#words = words
    this.#lock = new RobustLock(cpu, STORE.lock, undefined, words)
    this.#heap = new StoreHeap(this.#map, () => this.#oldestReader())
    this.#encoder = new StoreEncoder(this.#map.bytes)
    this.#reader = this.#map.readers + cpu.id * LINE_WORDS
    // What an earlier life of this CPU was reading when it died, it does not read any more.
    store(words, this.#reader + READER.sequence, 0)
    words[this.#reader + READER.life] = cpu.memory.readCpu(cpu.id, CPU.incarnation)
  }

  /** The value of a key, a copy, or undefined. Takes no lock. Throws `IPI_INVALID_ARGUMENT`. */
  get(key: StoreKey): Value | undefined {
    return this.#read(key, (at) => this.#valueAt(at))
  }

  /** The same with its version. */
  read(key: StoreKey): Versioned<Value> | undefined {
    return this.#read(key, (at) => ({ value: this.#valueAt(at), version: this.#versionAt(at) }))
  }

  /** Whether there is a value. */
  has(key: StoreKey): boolean {
    return this.#read(key, () => true) ?? false
  }

  /**
   * Keeps a value, a copy; gives its version. When it returns every thread reads this or something later.
   * Throws `IPI_INVALID_ARGUMENT`, `IPI_UNCLONEABLE`, `IPI_STORE_FULL`, and `IPI_TIMEOUT` if another
   * thread does not come to an end with its write; then nothing has changed.
   */
  set(key: StoreKey, value: Value): number {
    return this.#put(key, value, undefined)
  }

  /**
   * Keeps a value if the key still has this version, 0 for none; gives the new version, or undefined if
   * the key has another. Throws as `set` does.
   */
  compareAndSet(key: StoreKey, version: number, value: Value): number | undefined {
    const written = this.#put(key, value, version)
    return written === 0 ? undefined : written
  }

  /** Forgets a key; gives whether there was one. Throws `IPI_INVALID_ARGUMENT`, `IPI_TIMEOUT`. */
  delete(key: StoreKey): boolean {
    return this.#write(key, (hash) => {
      const link = this.#findLink(hash)
      const at = load(this.#words, link)
      if (at === 0) return false
      store(this.#words, link, load(this.#words, at + BLOCK.next))
      this.#words[STORE.count]! -= 1
      this.#nextSequence()
      this.#heap.retire(at)
      return true
    })
  }

  /** How many keys there are. */
  get size(): number {
    return load(this.#words, STORE.count)
  }

  /** How full it is. */
  stats(): StoreStats {
    const { words, heap, end } = this.#map
    return {
      entries: this.size,
      bytesUsed: 4 * load(words, STORE.usedWords),
      bytesTouched: 4 * (load(words, STORE.top) - heap),
      bytesMax: 4 * (end - heap),
    }
  }

  // Reading.

  /** Looks a key up; `take` reads what it wants of the block, which stays as it is until then. */
  #read<T>(key: StoreKey, take: (at: number) => T): T | undefined {
    this.#checkLives()
    const words = this.#words
    // With interrupts off: a handler that reads would say that we have ended.
    const flags = this.#cpu.localIrqSave()
    try {
      const hash = this.#encoder.encodeKey(key)
      // Before the chain is looked at: whoever takes a block out of it does that, then looks at the
      // readers (StoreHeap.reclaim), so either it sees this one or this one does not see the block.
      store(words, this.#reader, load(words, STORE.sequence))
      const at = load(words, this.#findLink(hash))
      return at === 0 ? undefined : take(at)
    } finally {
      store(words, this.#reader, 0)
      this.#cpu.localIrqRestore(flags)
    }
  }

  /** The word that leads, or would lead, to the block of the key that was encoded last. */
  #findLink(hash: number): number {
    const words = this.#words
    const { buckets, bucketCount } = this.#map
    let link = buckets + (hash & (bucketCount - 1))
    for (;;) {
      const at = load(words, link)
      if (at === 0) return link
      if (words[at + BLOCK.hash] === hash && this.#isKeyOf(at)) return link
      link = at + BLOCK.next
    }
  }

  #isKeyOf(at: number): boolean {
    const length = this.#words[at + BLOCK.key]! & 0xffffff
    return length === this.#encoder.keyBytes && this.#encoder.isKeyAt(4 * (at + BLOCK.payload))
  }

  #valueAt(at: number): Value {
    const key = this.#words[at + BLOCK.key]!
    const first = 4 * (at + BLOCK.payload) + (key & 0xffffff)
    const length = this.#words[at + BLOCK.valueBytes]!
    return this.#encoder.decodeValue(key >>> 24, first, length) as Value
  }

  #versionAt(at: number): number {
    const words = this.#words
    return words[at + BLOCK.versionHigh]! * VERSIONS + (words[at + BLOCK.version]! >>> 1)
  }

  /** When the one who has read for the longest began. The dead read nothing. */
  #oldestReader(): number {
    const { memory } = this.#cpu
    const words = this.#words
    let oldest = load(words, STORE.sequence)
    for (let cpu = 0; cpu < this.#map.cpuCount; cpu++) {
      const at = this.#map.readers + cpu * LINE_WORDS
      const sequence = load(words, at + READER.sequence)
      if (sequence === 0 || ((sequence - oldest) | 0) >= 0) continue
      const isDead =
        memory.readCpu(cpu, CPU.state) === CPU_STATE.dead ||
        memory.readCpu(cpu, CPU.incarnation) !== words[at + READER.life]
      if (!isDead) oldest = sequence
    }
    return oldest
  }

  // Writing.

  #put(key: StoreKey, value: Value, version: number | undefined): number {
    const encoded = this.#encoder.encodeValue(value)
    const deadline = this.#cpu.platform.now() + READERS_MS
    for (;;) {
      const written = this.#write(key, (hash) => this.#replace(hash, encoded, version))
      if (written >= 0) return written
      // Somebody may be reading what could be used again.
      const rest = Math.max(0, deadline - this.#cpu.platform.now())
      if (!this.#waits.block(() => this.#hasFreed(), rest)) throw this.#full(encoded.bytes.length)
    }
  }

  /** Puts a new block into a chain; gives its version, 0 for another than `wanted`, -1 for no room. */
  #replace(hash: number, { kind, bytes }: EncodedValue, wanted: number | undefined): number {
    const words = this.#words
    const { keyBytes } = this.#encoder
    const link = this.#findLink(hash)
    const old = load(words, link)
    if (wanted !== undefined && wanted !== (old === 0 ? 0 : this.#versionAt(old))) return 0
    const at = this.#allocate(BLOCK.payload + ((keyBytes + bytes.length + 3) >>> 2))
    if (at === 0) return -1
    const sequence = (load(words, STORE.sequence) + 2) | 0
    words[at + BLOCK.hash] = hash
    words[at + BLOCK.key] = keyBytes | (kind << 24)
    words[at + BLOCK.valueBytes] = bytes.length
    words[at + BLOCK.version] = sequence
    words[at + BLOCK.versionHigh] = words[STORE.sequenceHigh]! + (sequence === 1 ? 1 : 0)
    const first = 4 * (at + BLOCK.payload)
    this.#encoder.writeKey(first)
    this.#map.bytes.set(bytes, first + keyBytes)
    store(words, at + BLOCK.next, old === 0 ? 0 : load(words, old + BLOCK.next))
    // Publishes the block: whoever loads this word finds the old one or all of the new one.
    store(words, link, at)
    this.#nextSequence()
    if (old === 0) words[STORE.count]! += 1
    else this.#heap.retire(old)
    return this.#versionAt(at)
  }

  #nextSequence(): void {
    const words = this.#words
    const sequence = (load(words, STORE.sequence) + 2) | 0
    if (sequence === 1) words[STORE.sequenceHigh]! += 1
    store(words, STORE.sequence, sequence)
  }

  #allocate(wordCount: number): number {
    if (this.#heap.retiredCount > RETIRED_MAX) this.#heap.reclaim()
    const at = this.#heap.allocate(wordCount)
    if (at !== 0 || this.#heap.retiredCount === 0) return at
    this.#heap.reclaim()
    return this.#heap.allocate(wordCount)
  }

  /** Whether readers have left anything that waited for them. */
  #hasFreed(): boolean {
    return this.#locked(() => {
      const before = this.#heap.retiredCount
      this.#heap.reclaim()
      return this.#heap.retiredCount < before
    })
  }

  #full(bytes: number): IpiError {
    const { entries, bytesUsed, bytesMax } = this.stats()
    return new IpiError(
      'IPI_STORE_FULL',
      `a shared store of ${bytesMax} bytes has no room for a value of ${bytes} bytes: ${entries} ` +
        `entries take ${bytesUsed}. Delete some, or make it larger: openStore(machine, { bytes })`,
    )
  }

  #write<T>(key: StoreKey, change: (hash: number) => T): T {
    this.#checkLives()
    return this.#locked(() => change(this.#encoder.encodeKey(key)))
  }

  /**
   * Runs as the only writer, with interrupts off: a handler that writes would wait for us for ever. A
   * holder that died in the middle leaves the mark, and its books are set up anew.
   */
  #locked<T>(run: () => T): T {
    let flags = false
    let isHeld = false
    const tries = (): boolean => {
      if (isHeld) return true
      flags = this.#cpu.localIrqSave()
      isHeld = this.#lock.tryAcquire()
      if (!isHeld) this.#cpu.localIrqRestore(flags)
      return isHeld
    }
    if (!this.#waits.block(tries, WRITER_MS)) throw this.#late()
    const words = this.#words
    try {
      if (words[STORE.busy] !== 0) this.#repair()
      words[STORE.busy] = 1
      return run()
    } finally {
      words[STORE.busy] = 0
      this.#lock.release()
      this.#cpu.localIrqRestore(flags)
    }
  }

  #repair(): void {
    const words = this.#words
    const reachable = new Set<number>()
    const { buckets, bucketCount } = this.#map
    for (let i = 0; i < bucketCount; i++) {
      let at = load(words, buckets + i)
      while (at !== 0) {
        reachable.add(at)
        at = load(words, at + BLOCK.next)
      }
    }
    this.#heap.repair(reachable)
  }

  #late(): IpiError {
    const cpu = this.#lock.holder
    return new IpiError(
      'IPI_TIMEOUT',
      `CPU ${this.#cpu.id} waited ${WRITER_MS} ms to write into a shared store: CPU ${cpu} is ` +
        'in the middle of a write',
      { cpus: cpu < 0 ? [] : [cpu], waitedMs: WRITER_MS },
    )
  }

  /** A thread that has left the machine is seen by nobody: what it reads could change under it. */
  #checkLives(): void {
    this.#waits.checkOpen()
    if (!this.#cpu.isBuried) return
    throw new IpiError('IPI_MACHINE_CLOSED', 'this thread ends: it has left its machine')
  }
}
