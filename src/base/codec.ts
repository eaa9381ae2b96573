/**
 * Small plain values as bytes: the fast path of a value through shared memory. Whatever this cannot
 * write exactly as structured clone would (HTML, section "Safe passing of structured data") it
 * refuses, and the value travels by message port instead; so both paths mean the same.
 */

const TAG = {
  undefined: 0,
  null: 1,
  true: 2,
  false: 3,
  int32: 4,
  float64: 5,
  latin1: 6,
  utf16: 7,
  array: 8,
  object: 9,
} as const

/** Deeper values go by port. */
const DEPTH_MAX = 8
/** Values with more objects go by port: repeated references are looked for one by one. */
const OBJECT_COUNT_MAX = 32

/** Thrown inside, never out: the value is not for this path. */
const REFUSED = new Error('not for this path')

/** Writes and reads values at byte positions of one buffer. Keeps no state between calls. */
export class Codec {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0
  #end = 0
  readonly #seen: object[] = []

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /**
   * Writes a value at `start`, in at most `limit` bytes. Gives the bytes written, or -1 if the value
   * is too large or not plain; what was written then means nothing.
   */
  encode(value: unknown, start: number, limit: number): number {
    this.#at = start
    this.#end = start + limit
    try {
      this.#write(value, 0)
      return this.#at - start
    } catch (error) {
      if (error === REFUSED) return -1
      throw error
    } finally {
      // Numbers and strings are common, and setting a length costs more than writing them.
      if (this.#seen.length > 0) this.#seen.length = 0
    }
  }

  /** Reads the value that `encode` wrote at `start`. */
  decode(start: number): unknown {
    this.#at = start
    return this.#read()
  }

  #reserve(bytes: number): number {
    const at = this.#at
    if (at + bytes > this.#end) throw REFUSED
    this.#at = at + bytes
    return at
  }

  #writeTag(tag: number): void {
    this.#bytes[this.#reserve(1)] = tag
  }

  #write(value: unknown, depth: number): void {
    switch (typeof value) {
      case 'undefined':
        return this.#writeTag(TAG.undefined)
      case 'boolean':
        return this.#writeTag(value ? TAG.true : TAG.false)
      case 'number':
        return this.#writeNumber(value)
      case 'string':
        return this.#writeString(value)
      case 'object':
        if (value === null) return this.#writeTag(TAG.null)
        return this.#writeObject(value, depth)
      default:
        // bigint is rare; functions and symbols get their error from structured clone.
        throw REFUSED
    }
  }

  #writeNumber(value: number): void {
    if (Object.is(value | 0, value)) {
      this.#writeTag(TAG.int32)
      this.#view.setInt32(this.#reserve(4), value)
    } else {
      this.#writeTag(TAG.float64)
      this.#view.setFloat64(this.#reserve(8), value)
    }
  }

  #writeString(text: string): void {
    const { length } = text
    const start = this.#at
    this.#writeTag(TAG.latin1)
    this.#view.setUint32(this.#reserve(4), length)
    let at = this.#reserve(length)
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 0xff) {
        this.#at = start
        return this.#writeUtf16(text)
      }
      this.#bytes[at++] = unit
    }
  }

  #writeUtf16(text: string): void {
    this.#writeTag(TAG.utf16)
    this.#view.setUint32(this.#reserve(4), text.length)
    let at = this.#reserve(text.length * 2)
    for (let i = 0; i < text.length; i++, at += 2) this.#view.setUint16(at, text.charCodeAt(i))
  }

  #writeObject(value: object, depth: number): void {
    // Structured clone keeps two references to one object one object. So does the port.
    if (depth >= DEPTH_MAX || this.#seen.length >= OBJECT_COUNT_MAX) throw REFUSED
    if (this.#seen.includes(value)) throw REFUSED
    this.#seen.push(value)
    const prototype: unknown = Object.getPrototypeOf(value)
    if (Array.isArray(value)) {
      if (prototype !== Array.prototype || value.length > this.#end - this.#at) throw REFUSED
      // Holes and extra properties survive structured clone; this path has no place for them.
      const keys = Object.keys(value)
      if (keys.length !== value.length) throw REFUSED
      if (keys.some((key, i) => key !== String(i))) throw REFUSED
      this.#writeTag(TAG.array)
      this.#view.setUint32(this.#reserve(4), value.length)
      for (const element of value) this.#write(element, depth + 1)
      return
    }
    // Maps, dates, errors, class instances and objects with hidden state: the port knows them. Before
    // their keys: a typed array has one for each element.
    if (prototype !== Object.prototype && prototype !== null) throw REFUSED
    const keys = Object.keys(value)
    if (Object.prototype.toString.call(value) !== '[object Object]') throw REFUSED
    this.#writeTag(TAG.object)
    this.#view.setUint32(this.#reserve(4), keys.length)
    for (const key of keys) {
      this.#writeString(key)
      this.#write((value as Record<string, unknown>)[key], depth + 1)
    }
  }

  #readLength(): number {
    const length = this.#view.getUint32(this.#at)
    this.#at += 4
    return length
  }

  #read(): unknown {
    switch (this.#bytes[this.#at++]) {
      case TAG.undefined:
        return undefined
      case TAG.null:
        return null
      case TAG.true:
        return true
      case TAG.false:
        return false
      case TAG.int32:
        return this.#view.getInt32((this.#at += 4) - 4)
      case TAG.float64:
        return this.#view.getFloat64((this.#at += 8) - 8)
      case TAG.latin1:
        return this.#readLatin1()
      case TAG.utf16:
        return this.#readUtf16()
      case TAG.array:
        return this.#readArray()
      default:
        return this.#readObject()
    }
  }

  #readLatin1(): string {
    const length = this.#readLength()
    let text = ''
    for (let i = 0; i < length; i++) text += String.fromCharCode(this.#bytes[this.#at++]!)
    return text
  }

  #readUtf16(): string {
    const length = this.#readLength()
    let text = ''
    for (let i = 0; i < length; i++, this.#at += 2) {
      text += String.fromCharCode(this.#view.getUint16(this.#at))
    }
    return text
  }

  #readArray(): unknown[] {
    const length = this.#readLength()
    const array: unknown[] = []
    for (let i = 0; i < length; i++) array.push(this.#read())
    return array
  }

  #readObject(): object {
    const count = this.#readLength()
    const object: Record<string, unknown> = {}
    for (let i = 0; i < count; i++) {
      const key = this.#read() as string
      const value = this.#read()
      // A plain assignment to this one name would set the prototype.
      if (key === '__proto__') {
        Object.defineProperty(object, key, {
          value,
          writable: true,
          enumerable: true,
          configurable: true,
        })
      } else {
        object[key] = value
      }
    }
    return object
  }
}
