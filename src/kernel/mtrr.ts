/**
 * Memory types: `mtrr_add`, `mtrr_del` and `set_mtrr` of Linux 2.6.11
 * `arch/i386/kernel/cpu/mtrr/main.c`, and the same for ranges of keys of an address space. All CPUs change
 * together, in a rendezvous that the call-function interrupt brings about without waiting for the
 * function; so no two CPUs ever differ.
 */

import { IpiError } from '../base/errors.ts'
import { CPU, HEADER, TYPE_COUNT_MAX, TYPE_WORDS } from '../hardware/layout.ts'
import {
  ADDRESS_BITS,
  FIXED_END,
  MEMORY_TYPE,
  memoryTypeName,
  overlapType,
  PAGE_BYTES,
  VARIABLE_COUNT,
  type MemoryType,
  type MemoryTypeCode,
} from '../hardware/mtrr.ts'
import type { Control } from './control.ts'
import { describeTarget } from './diagnose.ts'
import type { Kernel } from './kernel.ts'
import {
  checkKeyRange,
  describeRange,
  encodeRange,
  isSame,
  overlap,
  type KeyRange,
  type TypedRange,
} from './key-range.ts'
import { checkMemoryType, type MemoryTypes } from './memory-types.ts'
import { SET_MTRR, type MtrrChange, type MtrrRound, type RegisterChange } from './mtrr-handler.ts'
import { MtrrTable } from './mtrr-table.ts'

/** How to add a range. */
export interface MtrrAddOptions {
  /** Whether a range that is there already counts one user more. Default true. */
  readonly increment?: boolean
}

/** The memory types of a machine, from one CPU. */
export class Mtrr {
  readonly #kernel: Kernel
  readonly #control: Control
  readonly #timeoutMs: number

  /** @internal */
  constructor(kernel: Kernel, control: Control, timeoutMs: number) {
    this.#kernel = kernel
    this.#control = control
    this.#timeoutMs = timeoutMs
  }

  /** @internal The types of keys as this CPU applies them: for what keeps copies. */
  get types(): MemoryTypes {
    return this.#kernel.types
  }

  /**
   * `mtrr_add`: gives the addresses from `base` on, `size` bytes, a type on all CPUs; gives the number of
   * the register. A range that lies in one of the same type uses its register. Not in handlers. Rejects
   * with `IPI_INVALID_ARGUMENT`, `IPI_TYPE_CONFLICT` if it overlaps a range of another type and is not
   * uncacheable, `IPI_NO_FREE_RANGE`, and `IPI_TIMEOUT`, nothing changed, if somebody does not come to
   * stand still.
   */
  add(
    base: number,
    size: number,
    type: MemoryType,
    { increment = true }: MtrrAddOptions = {},
  ): Promise<number> {
    return this.#exclusively('mtrr.add', () => {
      const wanted = { ...checkRegion(base, size), type: checkMemoryType(type) }
      const { registers } = this.#kernel.mtrr
      let free = -1
      for (let reg = 0; reg < VARIABLE_COUNT; reg++) {
        const found = registers.variable(reg)
        if (found === undefined) {
          if (free < 0) free = reg
          continue
        }
        const end = found.base + found.size
        if (wanted.base >= end || wanted.base + wanted.size <= found.base) continue
        if (wanted.base < found.base || wanted.base + wanted.size > end) {
          throw conflict(wanted, found, reg, 'overlaps')
        }
        if (wanted.type === found.type) {
          if (increment) this.#kernel.cpu.memory.words[HEADER.mtrrUsage + reg]! += 1
          return reg
        }
        if (wanted.type !== MEMORY_TYPE.uncacheable) throw conflict(wanted, found, reg, 'lies in')
      }
      if (free < 0) {
        throw new IpiError(
          'IPI_NO_FREE_RANGE',
          `all ${VARIABLE_COUNT} variable ranges are in use; mtrr.del one that is not needed:\n` +
            String(this.read()),
        )
      }
      this.#setMtrr('mtrr.add', { reg: free, ...wanted, usage: 1 })
      return free
    })
  }

  /**
   * `mtrr_del`: one user less of a range; with the last it goes. A negative `reg` finds it by its base
   * and size. Gives the register. Rejects with `IPI_INVALID_ARGUMENT` if there is none, `IPI_TIMEOUT`.
   */
  del(reg: number, base: number, size: number): Promise<number> {
    return this.#exclusively('mtrr.del', () => {
      const { registers } = this.#kernel.mtrr
      const region = reg < 0 ? checkRegion(base, size) : undefined
      const at = region === undefined ? reg : this.#find(region.base, region.size)
      const found = Number.isInteger(at) && at >= 0 && at < VARIABLE_COUNT && registers.variable(at)
      const usage = this.#usage(at)
      if (!found || usage < 1) {
        const what = reg < 0 ? `0x${base.toString(16)}, ${size} bytes` : String(reg)
        throw new IpiError('IPI_INVALID_ARGUMENT', `mtrr.del: no range in use is ${what}`)
      }
      if (usage > 1) this.#kernel.cpu.memory.words[HEADER.mtrrUsage + at] = usage - 1
      else this.#setMtrr('mtrr.del', { ...found, reg: at, size: 0, usage: 0 })
      return at
    })
  }

  #find(base: number, size: number): number {
    for (let reg = 0; reg < VARIABLE_COUNT; reg++) {
      const found = this.#kernel.mtrr.registers.variable(reg)
      if (found?.base === base && found.size === size) return reg
    }
    return -1
  }

  #usage(reg: number): number {
    return this.#kernel.cpu.memory.words[HEADER.mtrrUsage + reg] ?? 0
  }

  /** The ranges in use; prints as `/proc/mtrr` does. Any context. */
  read(): MtrrTable {
    const { registers } = this.#kernel.mtrr
    const ranges = Array.from({ length: VARIABLE_COUNT }, (_, reg) => {
      const found = registers.variable(reg)
      if (found === undefined) return []
      const { base, size, type } = found
      return [
        {
          reg,
          base: base * PAGE_BYTES,
          size: size * PAGE_BYTES,
          type: memoryTypeName(type),
          usage: this.#usage(reg),
        },
      ]
    })
    return new MtrrTable(ranges.flat(), memoryTypeName(registers.defaultType))
  }

  /**
   * The type of a physical address by the registers of this CPU, which are those of all; undefined where
   * ranges overlap whose types do not go together. Any context. Throws `IPI_INVALID_ARGUMENT`.
   */
  typeOf(address: number): MemoryType | undefined
  /**
   * The type of a key of an address space: of the ranges that it lies in, or else of the space. Any
   * context. Throws `IPI_INVALID_ARGUMENT`.
   */
  typeOf(space: string, key: unknown): MemoryType
  typeOf(where: number | string, key?: unknown): MemoryType | undefined {
    if (typeof where === 'string') return this.types.typeOf(this.#kernel.tlb.findMm(where), key)
    if (!Number.isInteger(where) || where < 0 || where >= 2 ** ADDRESS_BITS) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `typeOf takes an address below 2^${ADDRESS_BITS}, or the name of a space and a key; got ` +
          String(where),
      )
    }
    const type = this.#kernel.mtrr.registers.typeAt(where)
    return type === undefined ? undefined : memoryTypeName(type)
  }

  /**
   * Gives keys of an address space a type on all CPUs, or with `undefined` the one that they had before
   * any was set for them. Break before make: they become uncacheable everywhere, whatever was held back
   * of them is written out, then they get their type. Gives the CPUs that died before they had written
   * out what they held back. Not in handlers. Rejects with `IPI_INVALID_ARGUMENT`, `IPI_TYPE_CONFLICT`
   * if a range overlaps whose type does not go with this, `IPI_NO_FREE_RANGE`; with `IPI_TIMEOUT` or
   * `IPI_CALL_FAILED` if somebody does not come, or cannot write out: then they have their old type.
   */
  setType(space: string, range: KeyRange, type: MemoryType | undefined): Promise<number[]> {
    return this.#exclusively('mtrr.setType', async () => {
      checkKeyRange(range)
      const code = type === undefined ? undefined : checkMemoryType(type)
      const mm = this.#kernel.tlb.findMm(space)
      const { at, before, between, after } = this.#plan(mm, range, code)
      const change = (words: readonly number[]): number =>
        this.#rendezvous('mtrr.setType', {
          types: { mm, range, at, words, initiator: this.#kernel.cpu.id },
        })
      const others = this.#kernel.cpu.memory.onlineMask
      const sequence = change(between)
      try {
        const lost = await this.#drained([...others], sequence)
        change(after)
        return lost
      } catch (error) {
        change(before)
        throw error
      }
    })
  }

  /** The words that a change concerns: as they are, uncacheable, and as they shall be. */
  #plan(
    mm: number,
    range: KeyRange,
    type: MemoryTypeCode | undefined,
  ): {
    readonly at: number
    readonly before: readonly number[]
    readonly between: readonly number[]
    readonly after: readonly number[]
  } {
    const { uncacheable } = MEMORY_TYPE
    const { words } = this.#kernel.cpu.memory
    if (range === 'all') {
      const at = HEADER.spaceTypes + mm
      const after = type === undefined ? 0 : type + 1
      return { at, before: [words[at]!], between: [uncacheable + 1], after: [after] }
    }
    let place = -1
    for (let each = 0; each < TYPE_COUNT_MAX; each++) {
      const found = this.types.at(each)
      if (found?.mm !== mm) continue
      if (isSame(found.range, range)) place = each
      else if (type !== undefined) checkGoTogether(found, range, type)
    }
    const free = Array.from({ length: TYPE_WORDS }, () => 0)
    if (place < 0 && (place = this.types.freePlace()) < 0) {
      throw new IpiError(
        'IPI_NO_FREE_RANGE',
        `${TYPE_COUNT_MAX} ranges of keys have a type of their own, and that is all that there can be`,
      )
    }
    const at = HEADER.typeTable + place * TYPE_WORDS
    return {
      at,
      before: [...words.subarray(at, at + TYPE_WORDS)],
      between: encodeRange({ mm, range, type: uncacheable }),
      after: type === undefined ? free : encodeRange({ mm, range, type }),
    }
  }

  /** Waits until all have written out what they held back; gives those who died instead. */
  async #drained(cpus: readonly number[], sequence: number): Promise<number[]> {
    const { cpu, waits, functions } = this.#kernel
    const { memory } = cpu
    const said = (each: number): number => memory.readCpu(each, CPU.typesDrained)
    const isHere = (each: number): boolean => memory.testCpu(HEADER.onlineMask, each)
    const late = (): number[] =>
      cpus.filter((each) => Math.abs(said(each)) !== sequence && isHere(each))
    await waits.until(
      () => late().length === 0,
      this.#timeoutMs,
      () => {
        const doing = late().map((each) => describeTarget(cpu, functions, each))
        return new IpiError(
          'IPI_TIMEOUT',
          `mtrr.setType waited ${this.#timeoutMs} ms until all that was held back is written: ` +
            doing.join('; '),
          { cpus: late(), waitedMs: this.#timeoutMs },
        )
      },
    )
    const failed = cpus.filter((each) => said(each) === -sequence)
    if (failed.length > 0) {
      throw new IpiError(
        'IPI_CALL_FAILED',
        `mtrr.setType: CPU ${failed.join(', ')} could not write out what it had held back; the keys ` +
          'keep their type',
        { cpus: failed },
      )
    }
    return cpus.filter((each) => said(each) !== sequence)
  }

  /** `mtrr_sem`: one change at a time, and no CPU comes or goes meanwhile. */
  #exclusively<T>(what: string, run: () => T | Promise<T>): Promise<T> {
    return this.#control.exclusively(what, this.#timeoutMs, async () => {
      this.#kernel.waits.checkMayWait(what, true)
      return run()
    })
  }

  /** `set_mtrr`. */
  #setMtrr(what: string, register: RegisterChange): void {
    this.#rendezvous(what, { register })
  }

  /** Has every CPU make a change, all in one; gives the number of the round. Throws `IPI_TIMEOUT`. */
  #rendezvous(what: string, change: MtrrChange): number {
    const { cpu, calls, functions, mtrr, rendezvous } = this.#kernel
    const participants = cpu.memory.onlineMask
    const deadline = cpu.platform.now() + this.#timeoutMs
    const sequence = rendezvous.begin(participants)
    const round: MtrrRound = { ...change, sequence }
    let hasChanged = false
    calls.rendezvous(what, participants, SET_MTRR, round, this.#timeoutMs, { wait: false }, () => {
      hasChanged = mtrr.ipiHandler(round, deadline) === 'over'
      return hasChanged
    })
    if (hasChanged) return sequence
    const missing = rendezvous.missing(participants, sequence)
    const doing = missing.map((each) => describeTarget(cpu, functions, each)).join('; ')
    throw new IpiError('IPI_TIMEOUT', `${what}: did not stand still in time: ${doing}`, {
      cpus: missing,
      waitedMs: this.#timeoutMs,
    })
  }
}

/** The checks of `mtrr_add` and `mtrr_add_page`. Gives pages. */
function checkRegion(base: number, size: number): { readonly base: number; readonly size: number } {
  const isPages = (value: number): boolean =>
    Number.isInteger(value / PAGE_BYTES) && value >= 0 && value < 2 ** ADDRESS_BITS
  const refuse = (why: string): never => {
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `a memory type range from ${String(base)}, ${String(size)} bytes, ${why}`,
    )
  }
  if (!isPages(base) || !isPages(size) || size === 0) {
    return refuse(`is not whole pages of ${PAGE_BYTES} bytes below 2^${ADDRESS_BITS}`)
  }
  if (base + size > 2 ** ADDRESS_BITS) return refuse(`goes beyond 2^${ADDRESS_BITS}`)
  if (base + size <= FIXED_END) return refuse('lies below 1 MiB, where fixed ranges say the type')
  const pages = size / PAGE_BYTES
  // A page number has 24 bits here.
  if ((pages & (pages - 1)) !== 0 || base % size !== 0) {
    return refuse('is not a power of two in size and aligned to that')
  }
  return { base: base / PAGE_BYTES, size: pages }
}

function conflict(
  wanted: { readonly type: MemoryTypeCode },
  found: { readonly type: MemoryTypeCode },
  reg: number,
  how: string,
): IpiError {
  return new IpiError(
    'IPI_TYPE_CONFLICT',
    `a ${memoryTypeName(wanted.type)} range ${how} register ${reg}, which is ` +
      `${memoryTypeName(found.type)}; delete that first, or make the range lie within it and uncacheable`,
  )
}

function checkGoTogether(found: TypedRange, range: KeyRange, type: MemoryTypeCode): void {
  const other = found.type as MemoryTypeCode
  if (range === 'all' || !overlap(found.range, range)) return
  if (overlapType(other, type) !== undefined) return
  throw new IpiError(
    'IPI_TYPE_CONFLICT',
    `${describeRange(range)} cannot be ${memoryTypeName(type)}: it overlaps ` +
      `${describeRange(found.range)}, which is ${memoryTypeName(other)}`,
  )
}
