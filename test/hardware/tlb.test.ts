/** A translation buffer: what it keeps, what it forgets, and whom it evicts. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { hashKey, TranslationBuffer, type Key } from '../../src/hardware/tlb.ts'
import { Dice } from '../support/random.ts'

/** SIEVE as its paper has it: a list, a bit each, a hand. Slow and plain. */
class PlainSieve {
  readonly #capacity: number
  /** The newest first. */
  readonly list: { readonly key: Key; used: boolean }[] = []
  #hand: { readonly key: Key; used: boolean } | undefined

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get(key: Key): boolean {
    const found = this.list.find((each) => each.key === key)
    if (found !== undefined) found.used = true
    return found !== undefined
  }

  fill(key: Key): void {
    this.delete(key)
    if (this.list.length >= this.#capacity) this.#evict()
    this.list.unshift({ key, used: false })
  }

  #evict(): void {
    let at = this.#hand === undefined ? this.list.length - 1 : this.list.indexOf(this.#hand)
    while (this.list[at]!.used) {
      this.list[at]!.used = false
      at = at === 0 ? this.list.length - 1 : at - 1
    }
    this.#hand = this.list[at - 1]
    this.list.splice(at, 1)
  }

  delete(key: Key): void {
    const at = this.list.findIndex((each) => each.key === key)
    if (at < 0) return
    if (this.list[at] === this.#hand) this.#hand = this.list[at - 1]
    this.list.splice(at, 1)
  }
}

const keysOf = (buffer: TranslationBuffer, keys: readonly Key[]): Key[] =>
  keys.filter((key) => buffer.has(key))

test('it holds what SIEVE holds, whatever is read, filled and flushed', () => {
  const keys = Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? i : `k${i}`))
  const step = fc.record({
    what: fc.constantFrom('get', 'get', 'fill', 'fill', 'delete'),
    key: fc.constantFrom(...keys),
  })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 }), fc.array(step, { maxLength: 80 }), (max, steps) => {
      const buffer = new TranslationBuffer(max)
      const plain = new PlainSieve(max)
      for (const { what, key } of steps) {
        if (what === 'get') assert.equal(buffer.find(key) !== undefined, plain.get(key))
        else if (what === 'fill') {
          buffer.fill(key, key)
          plain.fill(key)
        } else {
          buffer.invalidatePage(key)
          plain.delete(key)
        }
        const wanted = plain.list.map((each) => each.key)
        assert.deepEqual(new Set(keysOf(buffer, keys)), new Set(wanted))
      }
    }),
    { numRuns: 500 },
  )
})

test('on a skewed trace it misses less than the least recently used would', () => {
  const dice = new Dice(7)
  const buffer = new TranslationBuffer(100)
  const recent = new Map<number, true>()
  let misses = 0
  let missesOfLru = 0
  for (let i = 0; i < 200_000; i++) {
    // Twenty times as many keys as places; the chance of a key falls with its number.
    const key = Math.floor(2000 ** (dice.below(1 << 20) / (1 << 20)))
    if (buffer.find(key) === undefined) {
      misses++
      buffer.fill(key, key)
    }
    if (recent.delete(key)) recent.set(key, true)
    else {
      missesOfLru++
      recent.set(key, true)
      if (recent.size > 100) recent.delete(recent.keys().next().value!)
    }
  }
  assert.ok(misses < missesOfLru, `${misses} misses, ${missesOfLru} with LRU`)
})

describe('flushes', () => {
  const filled = (): TranslationBuffer => {
    const buffer = new TranslationBuffer()
    for (const page of [1, 2, 3, 4000]) buffer.fill(page, page, { tags: [page % 2] })
    buffer.fill('three', 3, { tags: [1] })
    return buffer
  }
  const all = [1, 2, 3, 4000, 'three']

  test('by hash forget the key that was meant, and every other of that hash', () => {
    const buffer = filled()
    buffer.invalidateHash(hashKey('three'))
    assert.deepEqual(keysOf(buffer, all), [1, 2, 3, 4000])
    // A string whose hash is the number of a page.
    const twin = hashKey('three') >>> 0
    buffer.fill('three', 3)
    buffer.fill(twin, 0)
    buffer.fill('other', 0)
    buffer.invalidateHash(hashKey('three'))
    assert.deepEqual(keysOf(buffer, [...all, twin, 'other']), [1, 2, 3, 4000, 'other'])
  })

  test('by range forget the pages in it, few or many, and no strings', () => {
    for (const [from, to] of [
      [2, 4],
      [2, 4000],
    ] as const) {
      const buffer = filled()
      buffer.invalidateRange(from, to)
      assert.deepEqual(keysOf(buffer, all), [1, 4000, 'three'])
    }
  })

  test('by tag forget whatever bears it, and not what was replaced by something without it', () => {
    const buffer = filled()
    buffer.fill(3, 'anew')
    buffer.invalidateTag(1)
    assert.deepEqual(keysOf(buffer, all), [2, 3, 4000])
    buffer.invalidateTag(1)
    assert.equal(buffer.size, 3)
  })

  test('of everything leave nothing; reloading tables leaves what is global', () => {
    const buffer = filled()
    buffer.fill(7, 'kernel', { global: true })
    buffer.reload()
    assert.deepEqual(keysOf(buffer, [...all, 7]), [7])
    buffer.flushAll()
    assert.equal(buffer.size, 0)
    buffer.fill(7, 'user')
    buffer.reload()
    assert.equal(buffer.size, 0)
  })
})

test('pages are known by their numbers, strings by a hash that tells 100,000 apart', () => {
  for (const page of [0, 1, 0x7fffffff, 0xfffffffe]) assert.equal(hashKey(page), page | 0)
  const hashes = new Set(Array.from({ length: 100_000 }, (_, i) => hashKey(`user:${i}`)))
  assert.ok(hashes.size > 99_990, `${hashes.size} hashes`)
  assert.equal(hashKey(1.5), hashKey('1.5'))
})
