/**
 * The codec against structured clone: what it accepts comes back exactly as structured clone would
 * give it, and what it cannot do exactly it refuses. fast-check prints the seed of a counterexample.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Codec } from '../../src/base/codec.ts'

const LIMIT = 4096
const MARGIN = 64
const RUNS = { numRuns: 400 }

/** A codec over a buffer of its own. */
function freshCodec(): { codec: Codec; bytes: Uint8Array } {
  const bytes = new Uint8Array(MARGIN + LIMIT + MARGIN)
  return { codec: new Codec(bytes), bytes }
}

/** What comes back, or 'refused'. */
function roundTrip(value: unknown): { value: unknown } | 'refused' {
  const { codec } = freshCodec()
  return codec.encode(value, MARGIN, LIMIT) < 0 ? 'refused' : { value: codec.decode(MARGIN) }
}

/** The same value, the same prototypes, the same keys in the same order, the same holes. */
function assertSame(actual: unknown, expected: unknown): void {
  assert.deepStrictEqual(actual, expected)
  if (typeof expected !== 'object' || expected === null) return
  const [mine, theirs] = [actual, expected] as [Record<string, unknown>, Record<string, unknown>]
  assert.deepStrictEqual(Reflect.ownKeys(mine), Reflect.ownKeys(theirs))
  for (const key of Object.keys(theirs)) {
    assert.deepStrictEqual(
      { ...Object.getOwnPropertyDescriptor(mine, key), value: undefined },
      { ...Object.getOwnPropertyDescriptor(theirs, key), value: undefined },
    )
    assertSame(mine[key], theirs[key])
  }
}

/** Text of any sixteen-bit units: Latin, others, and surrogates that stand alone. */
const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 6 })
    .map((units) => String.fromCharCode(...units)),
  fc.constantFrom('\ud800', '\udc00\ud800', 'ÿ', 'Ā', '\0', ''),
)

const leaf = fc.oneof(
  fc.constantFrom(undefined, null, true, false),
  fc.integer(),
  fc.double(),
  fc.constantFrom(-0, 0, NaN, Infinity, -Infinity, 2 ** 31, -(2 ** 31), 2 ** 31 - 1, 2 ** 53, 0.1),
  text,
)

const key = fc.oneof(
  text,
  fc.nat(20).map(String),
  fc.constantFrom('__proto__', 'constructor', 'toString', 'length', 'then', '-1'),
)

/** An object with the given entries, all its own, by definition and not by assignment. */
function build(entries: readonly (readonly [string, unknown])[], bare: boolean): object {
  const object: object = bare ? (Object.create(null) as object) : {}
  for (const [name, value] of entries) {
    Object.defineProperty(object, name, {
      value,
      writable: true,
      enumerable: true,
      configurable: true,
    })
  }
  return object
}

/** Small plain trees: everything that the codec is for. */
const plain = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small', withCrossShrink: true, maxDepth: 6 },
    leaf,
    fc.array(tie('tree'), { maxLength: 4 }),
    fc
      .tuple(fc.array(fc.tuple(key, tie('tree')), { maxLength: 4 }), fc.boolean())
      .map(([entries, bare]) => build(entries, bare)),
  ),
})).tree

class Point {
  x = 1
}

/** Makers, not values: shrinking and repeating must not share what one run has made. */
const HOSTILE: Record<string, () => unknown> = {
  'a Map': () => new Map([[1, 2]]),
  'a Set': () => new Set([1]),
  'a Date': () => new Date(0),
  'a RegExp': () => /x/g,
  'an Error': () => new RangeError('x'),
  'a class instance': () => new Point(),
  'a boxed number': () => Object(1) as unknown,
  'a boxed string': () => Object('x') as unknown,
  'a typed array': () => Uint8Array.of(1, 2),
  'an ArrayBuffer': () => new ArrayBuffer(4),
  'a subclass of Array': () => new (class extends Array<number> {})(1, 2, 3),
  'an array without prototype': () => Object.setPrototypeOf([1], null) as unknown,
  'a sparse array': () => [1, , 3], // oxlint-disable-line no-sparse-arrays
  'an array of holes': () => Object.assign([], { length: 5 }),
  'a huge empty array': () => Object.assign([], { length: 1e6 }),
  'an array with a property': () => Object.assign([1, 2], { extra: 1 }),
  'as many holes as properties': () => Object.assign([1, , 3], { extra: 1 }), // oxlint-disable-line no-sparse-arrays
  arguments: () =>
    (function () {
      return arguments // oxlint-disable-line prefer-rest-params
    })(),
  'a tagged object': () => ({ [Symbol.toStringTag]: 'Tagged', a: 1 }),
  'a function': () => () => 1,
  'a symbol': () => Symbol('x'),
  'a bigint': () => 10n,
  'a promise': () => Promise.resolve(1),
  'a WeakMap': () => new WeakMap(),
  'a repeated reference': () => {
    const shared = { a: 1 }
    return [shared, shared]
  },
  'a repeated empty array': () => {
    const shared: unknown[] = []
    return { a: shared, b: { c: shared } }
  },
  'a cycle': () => {
    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    return cycle
  },
  'a longer cycle': () => {
    const inner: unknown[] = []
    inner.push({ back: inner })
    return [inner]
  },
  'a string that is too large': () => 'x'.repeat(LIMIT),
  'wide text that is too large': () => 'Ā'.repeat(LIMIT / 2),
  'an array that is too large': () => Array.from({ length: LIMIT }, () => true),
  'more objects than it looks for': () => Array.from({ length: 40 }, () => ({})),
  'nesting deeper than it goes': () => {
    let deep: unknown = 1
    for (let i = 0; i < 12; i++) deep = [deep]
    return deep
  },
}

/** Values that are plain, though they look as if they were not. */
const UNUSUAL: Record<string, () => unknown> = {
  'no prototype': () => Object.assign(Object.create(null) as object, { a: 1 }),
  'a getter': () => ({
    get a() {
      return 1
    },
  }),
  'a hidden property': () => Object.defineProperty({ a: 1 }, 'hidden', { value: 2 }),
  'a symbol as key': () => ({ a: 1, [Symbol('s')]: 2 }),
  'a frozen object': () => Object.freeze({ a: Object.freeze([1]) }),
  'an own __proto__': () => build([['__proto__', { polluted: true }]], false),
  'an own __proto__ without prototype': () => build([['__proto__', 1]], true),
  'keys that are numbers, out of order': () => ({ b: 1, 2: 'two', a: 3, 1: 'one' }),
  'minus zero': () => [-0, 0],
  'not a number': () => [NaN, -NaN],
  'lone surrogates': () => ['\ud800', 'a\udfff', '\udc00\ud800'],
  'an empty key': () => ({ '': '' }),
  'two equal objects': () => [{ a: 1 }, { a: 1 }],
}

describe('what the codec accepts', () => {
  test('a small plain value is accepted and comes back as from structured clone', () => {
    fc.assert(
      fc.property(plain, (value) => {
        const back = roundTrip(value)
        fc.pre(countObjects(value) <= 32 && back !== 'refused')
        assertSame(back.value, structuredClone(value))
      }),
      RUNS,
    )
  })

  test('no small plain value is refused', () => {
    fc.assert(
      fc.property(plain, (value) => {
        fc.pre(countObjects(value) <= 32)
        assert.notEqual(roundTrip(value), 'refused')
      }),
      RUNS,
    )
  })

  for (const [what, make] of Object.entries(UNUSUAL)) {
    test(`${what} comes back as from structured clone`, () => {
      const back = roundTrip(make())
      assert.ok(back !== 'refused')
      assertSame(back.value, structuredClone(make()))
      assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
    })
  }
})

describe('what the codec refuses', () => {
  for (const [what, make] of Object.entries(HOSTILE)) {
    test(`${what} is refused, alone and inside`, () => {
      assert.equal(roundTrip(make()), 'refused')
      assert.equal(roundTrip([1, make()]), 'refused')
      assert.equal(roundTrip({ a: { b: make() } }), 'refused')
    })
  }

  test('wherever something stands that it cannot do, the whole is refused', () => {
    const hostile = fc.constantFrom(...Object.keys(HOSTILE))
    const path = fc.array(fc.oneof(fc.constant('array'), fc.constant('object')), { maxLength: 5 })
    fc.assert(
      fc.property(hostile, path, plain, (what, steps, beside) => {
        let value = HOSTILE[what]!()
        for (const step of steps) value = step === 'array' ? [beside, value] : { beside, value }
        assert.equal(roundTrip(value), 'refused')
      }),
      RUNS,
    )
  })

  test('an error that a getter throws is passed on, and the codec works afterwards', () => {
    const { codec } = freshCodec()
    const error = new Error('from the getter')
    const value = {
      inner: { ok: 1 },
      get bad(): unknown {
        throw error
      },
    }
    assert.throws(() => codec.encode(value, MARGIN, LIMIT), error)
    assert.ok(codec.encode([{}, {}], MARGIN, LIMIT) > 0)
  })
})

describe('where the codec writes', () => {
  test('in no more bytes than it is allowed, and nowhere else', () => {
    fc.assert(
      fc.property(plain, fc.nat(200), (value, limit) => {
        const { codec, bytes } = freshCodec()
        bytes.fill(0xa5)
        const written = codec.encode(value, MARGIN, limit)
        assert.ok(written <= limit)
        assert.ok(bytes.subarray(0, MARGIN).every((byte) => byte === 0xa5))
        assert.ok(bytes.subarray(MARGIN + limit).every((byte) => byte === 0xa5))
      }),
      RUNS,
    )
  })

  test('exactly as many bytes as it says suffice, and one less does not', () => {
    fc.assert(
      fc.property(plain, (value) => {
        const { codec } = freshCodec()
        const needed = codec.encode(value, MARGIN, LIMIT)
        fc.pre(needed > 0)
        assert.equal(codec.encode(value, MARGIN, needed), needed)
        assert.equal(codec.encode(value, MARGIN, needed - 1), -1)
      }),
      RUNS,
    )
  })

  test('it keeps no state between calls: several values stand side by side', () => {
    fc.assert(
      fc.property(fc.array(plain, { maxLength: 5 }), (values) => {
        const { codec } = freshCodec()
        const places: { at: number; value: unknown }[] = []
        let at = 0
        for (const value of values) {
          codec.encode(HOSTILE['a cycle']!(), at, LIMIT - at)
          const written = codec.encode(value, at, LIMIT - at)
          if (written < 0) continue
          places.push({ at, value })
          at += written
        }
        for (const place of places.reverse()) {
          assertSame(codec.decode(place.at), structuredClone(place.value))
          assertSame(codec.decode(place.at), structuredClone(place.value))
        }
      }),
      { numRuns: 150 },
    )
  })
})

function countObjects(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  return Object.values(value).reduce<number>((sum, each) => sum + countObjects(each), 1)
}

test('what is too large or of the wrong kind is refused before its keys are listed', () => {
  const { codec } = freshCodec()
  const unlisted = <T extends object>(value: T): T =>
    new Proxy(value, { ownKeys: () => assert.fail('its keys were listed') })
  for (const value of [new Uint8Array(8), new Map(), Array.from({ length: LIMIT + 1 }, () => 0)]) {
    assert.equal(codec.encode(unlisted(value), MARGIN, LIMIT), -1)
  }
})
