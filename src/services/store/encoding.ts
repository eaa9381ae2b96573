/**
 * Keys and values of a shared store as bytes. What the codec of base/codec.ts knows is written by it, byte
 * arrays as they are, and everything else that structured clone knows by the engine's serializer.
 */

import { deserialize, serialize } from 'node:v8'
import { Codec } from '../../base/codec.ts'
import { IpiError } from '../../base/errors.ts'
import { fnv1a } from '../../base/fnv.ts'

/** What is kept under: as in a Map, but strings and numbers only. */
export type StoreKey = string | number

/** Code units of a key. */
export const KEY_UNITS_MAX = 2048
const KEY_BYTES_MAX = 1 + 2 * KEY_UNITS_MAX
/** Longer values are written by the serializer. */
const CODEC_BYTES_MAX = 32_768

const TAG = { number: 0, latin1: 1, utf16: 2 } as const
/** How a value is written. */
const KIND = { codec: 0, bytes: 1, serialized: 2 } as const

/** A value as bytes. */
export interface EncodedValue {
  readonly kind: number
  readonly bytes: Uint8Array
}

/** Encodes for one thread. */
export class StoreEncoder {
  readonly #key = new Uint8Array(KEY_BYTES_MAX)
  readonly #number = new DataView(this.#key.buffer, 1, 8)
  readonly #value = new Uint8Array(CODEC_BYTES_MAX)
  readonly #codec = new Codec(this.#value)
  readonly #shared: Uint8Array<SharedArrayBuffer>
  readonly #sharedCodec: Codec
  /** How many bytes the key has that was encoded last. */
  keyBytes = 0

  /** `shared`: what is decoded from. */
  constructor(shared: Uint8Array<SharedArrayBuffer>) {
    this.#shared = shared
    this.#sharedCodec = new Codec(shared)
  }

  /** Encodes a key, and gives its hash. Throws `IPI_INVALID_ARGUMENT`. */
  encodeKey(key: StoreKey): number {
    const bytes = this.#key
    if (typeof key === 'string' && key.length <= KEY_UNITS_MAX) {
      bytes[0] = TAG.latin1
      let hash: number = TAG.latin1
      for (let i = 0; i < key.length; i++) {
        const unit = key.charCodeAt(i)
        if (unit > 0xff) return this.#encodeUtf16(key)
        bytes[i + 1] = unit
        hash = fnv1a(hash, unit)
      }
      this.keyBytes = key.length + 1
      return mix(hash)
    }
    if (typeof key === 'number') {
      bytes[0] = TAG.number
      // Minus zero is zero, as in a Map.
      this.#number.setFloat64(0, key + 0)
      this.keyBytes = 9
      return this.#hash()
    }
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `a key of a shared store is a number, or a string of at most ${KEY_UNITS_MAX} characters; got ` +
        (typeof key === 'string' ? `${key.length} characters` : typeof key),
    )
  }

  #encodeUtf16(key: string): number {
    this.#key[0] = TAG.utf16
    for (let i = 0; i < key.length; i++) {
      const unit = key.charCodeAt(i)
      this.#key[2 * i + 1] = unit
      this.#key[2 * i + 2] = unit >>> 8
    }
    this.keyBytes = 2 * key.length + 1
    return this.#hash()
  }

  #hash(): number {
    let hash: number = TAG.utf16
    for (let i = 1; i < this.keyBytes; i++) hash = fnv1a(hash, this.#key[i]!)
    return mix(hash)
  }

  /** Whether the key that was encoded last stands at a byte of the shared memory. */
  isKeyAt(at: number): boolean {
    for (let i = 0; i < this.keyBytes; i++) {
      if (this.#shared[at + i] !== this.#key[i]) return false
    }
    return true
  }

  /** Writes the key that was encoded last. */
  writeKey(at: number): void {
    const { keyBytes } = this
    if (keyBytes > 32) this.#shared.set(this.#key.subarray(0, keyBytes), at)
    else for (let i = 0; i < keyBytes; i++) this.#shared[at + i] = this.#key[i]!
  }

  /** A value as bytes. Throws `IPI_UNCLONEABLE`. */
  encodeValue(value: unknown): EncodedValue {
    // A copy: nothing of an application's runs while others are locked out, not even a getter.
    if (value instanceof Uint8Array) return { kind: KIND.bytes, bytes: new Uint8Array(value) }
    const length = this.#codec.encode(value, 0, CODEC_BYTES_MAX)
    // A copy: before it is written a handler may encode another.
    if (length >= 0) return { kind: KIND.codec, bytes: this.#value.slice(0, length) }
    try {
      return { kind: KIND.serialized, bytes: serialize(value) }
    } catch (cause) {
      throw new IpiError('IPI_UNCLONEABLE', `a shared store cannot keep this: ${String(cause)}`, {
        cause,
      })
    }
  }

  /** The value that stands at a byte of the shared memory. Whoever reads keeps others from changing it. */
  decodeValue(kind: number, at: number, length: number): unknown {
    if (kind === KIND.codec) return this.#sharedCodec.decode(at)
    const bytes = new Uint8Array(length)
    bytes.set(this.#shared.subarray(at, at + length))
    return kind === KIND.bytes ? bytes : deserialize(bytes)
  }
}

/** Every bit of a hash depends on every other, so that chains can be chosen by the low ones. */
function mix(hash: number): number {
  const half = Math.imul(hash ^ (hash >>> 16), 0x7feb352d)
  return half ^ (half >>> 15)
}
