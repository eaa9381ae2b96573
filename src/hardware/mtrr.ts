/**
 * Memory type range registers: what one CPU has been told of how ranges of addresses may be cached, and
 * which type an address has by that. Intel SDM vol. 3, chapter "Memory Cache Control", "Memory Type
 * Range Registers (MTRRs)"; Linux `arch/i386/kernel/cpu/mtrr/generic.c`.
 *
 * The registers stand in the CPU's page, each as two words, so that a CPU that comes later can take what
 * the others have. Only the owner writes them, and once it is online only while all CPUs stand still
 * (kernel/rendezvous.ts): its plain writes are published by what it acknowledges then.
 */

import { IpiError } from '../base/errors.ts'
import type { SharedWords } from './memory.ts'

/** The types, as the registers encode them; 2 and 3 are reserved. */
export const MEMORY_TYPE = {
  uncacheable: 0,
  'write-combining': 1,
  'write-through': 4,
  'write-protected': 5,
  'write-back': 6,
} as const

/** What a range of memory is, by name. */
export type MemoryType = keyof typeof MEMORY_TYPE
/** The same, as the registers have it. */
export type MemoryTypeCode = (typeof MEMORY_TYPE)[MemoryType]

const NAMES = new Map(
  Object.entries(MEMORY_TYPE).map(([name, code]) => [code as number, name as MemoryType]),
)

/** The name of a type. */
export function memoryTypeName(code: MemoryTypeCode): MemoryType {
  return NAMES.get(code)!
}

/** Whether a register may hold this number as a type. */
export function isMemoryTypeCode(code: number): code is MemoryTypeCode {
  return NAMES.has(code)
}

/**
 * What an address is that lies in two ranges: the same if both are, uncacheable if one is,
 * write-through if it is that and write-back. Undefined for all else: the manual says nothing of it.
 */
export function overlapType(a: MemoryTypeCode, b: MemoryTypeCode): MemoryTypeCode | undefined {
  if (a === b) return a
  if (a === MEMORY_TYPE.uncacheable || b === MEMORY_TYPE.uncacheable) return MEMORY_TYPE.uncacheable
  const both = (1 << a) | (1 << b)
  const mixed = (1 << MEMORY_TYPE['write-through']) | (1 << MEMORY_TYPE['write-back'])
  return both === mixed ? MEMORY_TYPE['write-through'] : undefined
}

/** How many pairs of variable range registers there are. */
export const VARIABLE_COUNT = 8
/** How many bits a physical address has. */
export const ADDRESS_BITS = 36
/** Bytes of a page: what ranges begin and end at. */
export const PAGE_BYTES = 4096
/** How many pages there are. */
export const PAGE_COUNT = 2 ** ADDRESS_BITS / PAGE_BYTES
/** Below this address fixed ranges go before variable ones. */
export const FIXED_END = 0x100000

/** Words of one CPU's registers. */
export const MTRR_WORDS = 56

/** Model-specific registers, by address. */
export const MTRR_MSR = {
  /** IA32_MTRRCAP: how many variable ranges, whether fixed ones, whether write-combining. */
  cap: 0xfe,
  /** IA32_MTRR_PHYSBASE0; the masks stand between the bases. */
  physBase0: 0x200,
  /** IA32_MTRR_FIX64K_00000, eight ranges of 64 KiB. */
  fix64k: 0x250,
  /** IA32_MTRR_FIX16K_80000 and its neighbour, sixteen ranges of 16 KiB. */
  fix16k: 0x258,
  /** IA32_MTRR_FIX4K_C0000 and its seven neighbours, 64 ranges of 4 KiB. */
  fix4k: 0x268,
  /** IA32_MTRR_DEF_TYPE: the type of all else, and what is switched on. */
  defType: 0x2ff,
} as const

const CAP = BigInt(VARIABLE_COUNT) | (1n << 8n) | (1n << 10n)
const FIXED_ENABLE = 1 << 10
const ENABLE = 1 << 11
/** In the mask of a pair: the pair counts. */
const VALID = 1 << 11

/** Where registers stand, in words. */
const DEF_TYPE = 0
const FIXED = 2
const VARIABLE = 24

/** A variable range, in pages. */
export interface VariableRange {
  readonly base: number
  readonly size: number
  readonly type: MemoryTypeCode
}

/** The registers of one CPU. */
export class MtrrRegisters {
  readonly #words: SharedWords
  readonly #at: number

  /** `at`: the first of MTRR_WORDS words. */
  constructor(words: SharedWords, at: number) {
    this.#words = words
    this.#at = at
  }

  /** What firmware leaves: everything is on, and everything is write-back. */
  reset(): void {
    for (let i = 0; i < MTRR_WORDS; i++) this.#words[this.#at + i] = 0
    const type = MEMORY_TYPE['write-back']
    for (let i = FIXED; i < VARIABLE; i++) this.#words[this.#at + i] = 0x01010101 * type
    this.#words[this.#at + DEF_TYPE] = ENABLE | FIXED_ENABLE | type
  }

  /** Takes the registers of another CPU, which must not change meanwhile. */
  copyFrom(at: number): void {
    for (let i = 0; i < MTRR_WORDS; i++) this.#words[this.#at + i] = this.#words[at + i]!
  }

  /** RDMSR. Throws `IPI_APIC_FAULT` for what is no register of these. */
  readMsr(msr: number): bigint {
    if (msr === MTRR_MSR.cap) return CAP
    const at = this.#place(msr)
    return (
      (BigInt.asUintN(32, BigInt(this.#words[at + 1]!)) << 32n) |
      BigInt.asUintN(32, BigInt(this.#words[at]!))
    )
  }

  /**
   * WRMSR. Throws `IPI_APIC_FAULT`, changing nothing, where hardware faults: reserved bits, types that
   * there are not, registers that are read-only or absent.
   */
  writeMsr(msr: number, value: bigint): void {
    const at = msr === MTRR_MSR.cap ? fault(msr, 'is read-only') : this.#place(msr)
    const isMask = msr < MTRR_MSR.fix64k && (msr & 1) === 1
    const isFixed = msr >= MTRR_MSR.fix64k && msr < MTRR_MSR.defType
    const reserved = isFixed ? 0n : reservedBits(msr, isMask)
    if (BigInt.asUintN(64, value) !== value || (value & reserved) !== 0n) {
      fault(msr, `has reserved bits: 0x${value.toString(16)}`)
    }
    const types = isMask ? [] : Array.from({ length: isFixed ? 8 : 1 }, (_, i) => i)
    for (const i of types) {
      const type = Number((value >> BigInt(8 * i)) & 0xffn)
      if (!isMemoryTypeCode(type)) fault(msr, `knows no memory type ${type}`)
    }
    this.#words[at] = Number(BigInt.asIntN(32, value))
    this.#words[at + 1] = Number(BigInt.asIntN(32, value >> 32n))
  }

  #place(msr: number): number {
    return this.#at + (placeOf(msr) ?? fault(msr, 'is not there'))
  }

  /** Whether the registers count at all; while they do not, everything is uncacheable. */
  get enabled(): boolean {
    return (this.#words[this.#at + DEF_TYPE]! & ENABLE) !== 0
  }

  set enabled(on: boolean) {
    const word = this.#words[this.#at + DEF_TYPE]!
    this.#words[this.#at + DEF_TYPE] = on ? word | ENABLE : word & ~ENABLE
  }

  /** The type of what no range names. */
  get defaultType(): MemoryTypeCode {
    return (this.#words[this.#at + DEF_TYPE]! & 0xff) as MemoryTypeCode
  }

  /** A variable range, or undefined if the pair is not in use. */
  variable(reg: number): VariableRange | undefined {
    const at = this.#at + VARIABLE + 4 * reg
    if ((this.#words[at + 2]! & VALID) === 0) return undefined
    const type = (this.#words[at]! & 0xff) as MemoryTypeCode
    return { base: this.#pages(at), size: PAGE_COUNT - this.#pages(at + 2), type }
  }

  /** Writes a pair, in pages. A size of 0 only clears the mask: the pair is free. */
  setVariable(reg: number, { base, size, type }: VariableRange): void {
    const at = this.#at + VARIABLE + 4 * reg
    if (size > 0) this.#setPages(at, base, type)
    if (size > 0) this.#setPages(at + 2, PAGE_COUNT - size, VALID)
    else this.#words[at + 2] = this.#words[at + 3] = 0
  }

  #pages(at: number): number {
    return ((this.#words[at + 1]! & 0xf) << 20) | (this.#words[at]! >>> 12)
  }

  #setPages(at: number, pages: number, low: number): void {
    this.#words[at] = (pages << 12) | low
    this.#words[at + 1] = pages >>> 20
  }

  /**
   * The type of a physical address by this CPU's registers; undefined where ranges overlap whose
   * types do not go together. A look at registers: any context.
   */
  typeAt(address: number): MemoryTypeCode | undefined {
    const defType = this.#words[this.#at + DEF_TYPE]!
    if ((defType & ENABLE) === 0) return MEMORY_TYPE.uncacheable
    if (address < FIXED_END && (defType & FIXED_ENABLE) !== 0) return this.#fixedType(address)
    let found: MemoryTypeCode | undefined
    let isDefined = true
    const page = Math.floor(address / PAGE_BYTES)
    for (let reg = 0; reg < VARIABLE_COUNT; reg++) {
      const at = this.#at + VARIABLE + 4 * reg
      if ((this.#words[at + 2]! & VALID) === 0) continue
      const mask = this.#pages(at + 2)
      if ((page & mask) !== (this.#pages(at) & mask)) continue
      const type = (this.#words[at]! & 0xff) as MemoryTypeCode
      if (type === MEMORY_TYPE.uncacheable) return type
      const both: MemoryTypeCode | undefined = found === undefined ? type : overlapType(found, type)
      isDefined &&= both !== undefined
      found = both ?? found
    }
    if (found === undefined) return this.defaultType
    return isDefined ? found : undefined
  }

  #fixedType(address: number): MemoryTypeCode {
    // The 88 ranges one after the other, a byte each.
    const range =
      address < 0x80000
        ? address >>> 16
        : address < 0xc0000
          ? 8 + ((address - 0x80000) >>> 14)
          : 24 + ((address - 0xc0000) >>> 12)
    const word = this.#words[this.#at + FIXED + (range >>> 2)]!
    return ((word >>> (8 * (range & 3))) & 0xff) as MemoryTypeCode
  }
}

/** Where a register stands among the words, or undefined if there is none of that address. */
function placeOf(msr: number): number | undefined {
  const { physBase0, fix64k, fix16k, fix4k, defType } = MTRR_MSR
  if (msr === defType) return DEF_TYPE
  if (msr >= physBase0 && msr < physBase0 + 2 * VARIABLE_COUNT) {
    return VARIABLE + 2 * (msr - physBase0)
  }
  if (msr === fix64k) return FIXED
  if (msr === fix16k || msr === fix16k + 1) return FIXED + 2 * (1 + msr - fix16k)
  if (msr >= fix4k && msr < fix4k + 8) return FIXED + 2 * (3 + msr - fix4k)
  return undefined
}

function reservedBits(msr: number, isMask: boolean): bigint {
  const above = (1n << 64n) - (1n << BigInt(ADDRESS_BITS))
  if (msr === MTRR_MSR.defType) return ~BigInt(ENABLE | FIXED_ENABLE | 0xff) & ((1n << 64n) - 1n)
  return above | (isMask ? 0x7ffn : 0xf00n)
}

function fault(msr: number, why: string): never {
  throw new IpiError('IPI_APIC_FAULT', `model-specific register 0x${msr.toString(16)} ${why}`)
}
