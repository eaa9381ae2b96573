/**
 * The interrupt descriptor table of one CPU: the seven system entries, a device stub behind every
 * other vector so that none can arrive unhandled, and the handlers that applications request. Linux
 * 2.6.11, `arch/i386/kernel/i8259.c` init_IRQ, `arch/i386/kernel/apic.c`, `irq.c` do_IRQ.
 */

import { IpiError, type IpiErrorFacts } from '../base/errors.ts'
import { lowestBit } from '../base/bits.ts'
import { HEADER } from '../hardware/layout.ts'
import type { Gate } from '../hardware/gates.ts'
import { and, or, load, compareExchange } from '../hardware/memory.ts'
import { EVENT, type Cpu } from './cpu.ts'
import {
  deviceEntryName,
  type EntryBuilder,
  type InterruptEntry,
  type PtRegs,
  type SmpHandler,
} from './entry.ts'
import type { Softirqs } from './softirq.ts'
import {
  checkDeviceVector,
  FIRST_DEVICE_VECTOR,
  FIRST_LEGAL_VECTOR,
  FIRST_SYSTEM_VECTOR,
  GATE_COUNT,
  isDeviceVector,
  VECTOR,
} from './vectors.ts'

/** An application's handler: short, synchronous, must not wait and must not throw. */
export type IrqHandler = (vector: number) => void

/** What the author of a handler says of it. */
export interface IrqOptions {
  /** As of a shared function: it may run in the middle of other JavaScript. Default false. */
  readonly interruptSafe?: boolean
}

/** The handler that an application has put behind a vector. */
interface IrqAction {
  readonly name: string
  readonly handler: IrqHandler
  readonly interruptSafe: boolean
}

/** One CPU's table. Private to its thread, but for the machine-wide mask of allocated vectors. */
export class Idt {
  readonly #cpu: Cpu
  readonly #builder: EntryBuilder
  readonly #softirqs: Softirqs
  readonly #actions: (IrqAction | undefined)[] = []
  /** The entries behind the system vectors. */
  readonly #system = new Map<number, InterruptEntry>()
  /** `common_interrupt`: where the stubs of all other vectors go on. */
  readonly #common: Gate
  /** Of system entries: whether a forced entry may take them now. */
  readonly #safety = new Map<number, () => boolean>()

  constructor(cpu: Cpu, builder: EntryBuilder, softirqs: Softirqs) {
    this.#cpu = cpu
    this.#builder = builder
    this.#softirqs = softirqs
    this.#common = builder.buildCommonInterrupt((regs) => this.#doIrq(regs))
    // From the first vector that can arrive, not from the first that should.
    cpu.handlers.gates.fill(this.#common, FIRST_LEGAL_VECTOR)
  }

  /** The entry behind a vector; undefined for one that cannot arrive. */
  entry(vector: number): InterruptEntry | undefined {
    if (vector < FIRST_LEGAL_VECTOR || vector >= GATE_COUNT) return undefined
    const system = this.#system.get(vector)
    return system ?? { name: deviceEntryName(vector), vector, enter: this.#common }
  }

  /** `set_intr_gate`: puts a system entry behind its vector; says when it is interrupt-safe. */
  setIntrGate(
    name: string,
    vector: number,
    handler: SmpHandler,
    isInterruptSafe: () => boolean = () => false,
  ): void {
    const entry = this.#builder.buildInterrupt(name, vector, handler)
    this.#system.set(vector, entry)
    this.#safety.set(vector, isInterruptSafe)
    this.#cpu.handlers.gates[vector] = entry.enter
  }

  /** Whether a forced entry may take a vector now: everything that would run was declared safe. */
  isInterruptSafe(vector: number): boolean {
    const isSafe = this.#safety.get(vector)
    return isSafe === undefined ? this.#actions[vector]?.interruptSafe === true : isSafe()
  }

  /**
   * `request_irq`: puts a handler behind a vector, on this CPU. Throws `IPI_INVALID_VECTOR` for a
   * vector that is not for applications, `IPI_VECTOR_IN_USE`, `IPI_INVALID_ARGUMENT`.
   */
  requestIrq(vector: number, name: string, handler: IrqHandler, options: IrqOptions = {}): void {
    checkDeviceVector(vector)
    if (typeof name !== 'string' || typeof handler !== 'function') {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        'requestIrq(vector, name, handler) takes a number, a string and a function',
      )
    }
    const owner = this.#actions[vector]
    if (owner !== undefined) {
      throw new IpiError(
        'IPI_VECTOR_IN_USE',
        `vector ${vector} of CPU ${this.#cpu.id} belongs to "${owner.name}"; freeIrq it first, or ` +
          'take another with allocVector()',
        { cpu: this.#cpu.id, vector },
      )
    }
    this.#actions[vector] = { name, handler, interruptSafe: options.interruptSafe === true }
    or(this.#cpu.memory.words, HEADER.vectorMask + (vector >>> 5), 1 << (vector & 31))
  }

  /** `free_irq`: takes the handler of this CPU away. Throws `IPI_INVALID_VECTOR` if there is none. */
  freeIrq(vector: number): void {
    checkDeviceVector(vector)
    if (this.#actions[vector] === undefined) {
      throw new IpiError('IPI_INVALID_VECTOR', `vector ${vector} has no handler on this CPU`, {
        cpu: this.#cpu.id,
        vector,
      })
    }
    this.#actions[vector] = undefined
  }

  /** The name an application gave to its handler of a vector. */
  irqName(vector: number): string | undefined {
    return this.#actions[vector]?.name
  }

  /**
   * `assign_irq_vector`: a vector that nobody in the machine has, from 31h upwards; it stays taken
   * until `releaseVector`. Throws `IPI_NO_FREE_VECTOR`.
   */
  allocVector(): number {
    const { words } = this.#cpu.memory
    for (let vector = FIRST_DEVICE_VECTOR; vector < FIRST_SYSTEM_VECTOR;) {
      const at = HEADER.vectorMask + (vector >>> 5)
      const taken = load(words, at)
      const free = ~taken & (-1 << (vector & 31))
      if (free === 0) {
        vector = (vector | 31) + 1
        continue
      }
      vector = (vector & ~31) | lowestBit(free)
      if (!isDeviceVector(vector)) {
        vector++
        continue
      }
      // Lost to another CPU: look again from the same place.
      if (compareExchange(words, at, taken, taken | (1 << (vector & 31))) === taken) return vector
    }
    throw new IpiError(
      'IPI_NO_FREE_VECTOR',
      'every vector from 49 to 238 is taken; give some back with releaseVector()',
    )
  }

  /** Gives a vector of `allocVector` back to the machine. */
  releaseVector(vector: number): void {
    checkDeviceVector(vector)
    and(this.#cpu.memory.words, HEADER.vectorMask + (vector >>> 5), ~(1 << (vector & 31)))
  }

  /**
   * `do_IRQ`: acknowledges, then runs the handler. Interrupts stay off, so the early acknowledgement
   * cannot make the same vector nest.
   */
  #doIrq(regs: PtRegs): void {
    const { vector } = regs
    const action = this.#actions[vector]
    this.#cpu.apic.eoi()
    if (action === undefined) return this.#ackBadIrq(vector)
    this.#softirqs.irqEnter()
    const { checks } = this.#cpu
    checks?.enter(action.name, vector)
    try {
      const result: unknown = action.handler(vector)
      if (isThenable(result)) {
        checks?.onPromise()
        refusePromise(
          result,
          `the handler "${action.name}" of vector ${vector} returned a promise; handlers are ` +
            'synchronous: raise a softirq or start the work with setImmediate',
          { cpu: this.#cpu.id, vector },
        )
      }
    } finally {
      checks?.leave()
      this.#softirqs.irqExit()
    }
  }

  /**
   * `ack_bad_irq`: nobody asked for this vector. It was acknowledged all the same: one that is not
   * would block its priority class for ever.
   */
  #ackBadIrq(vector: number): void {
    this.#cpu.count(EVENT.unexpected)
    const cure = isDeviceVector(vector) ? `; requestIrq(${vector}, …) on that CPU handles it` : ''
    this.#cpu.platform.warn(
      `interprocessor: unexpected interrupt vector ${vector} (0x${vector.toString(16)}) on CPU ` +
        `${this.#cpu.id}${cure}`,
    )
  }
}

/** Whether a value is a promise or pretends to be one. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    value !== null &&
    (typeof value === 'object' || typeof value === 'function') &&
    typeof (value as { then?: unknown }).then === 'function'
  )
}

/** Throws `IPI_ASYNC_FUNCTION`. Nobody looks at the promise: its rejection must not end the thread. */
export function refusePromise(
  promise: PromiseLike<unknown>,
  message: string,
  facts: IpiErrorFacts,
): never {
  void Promise.resolve(promise).catch(() => undefined)
  throw new IpiError('IPI_ASYNC_FUNCTION', message, facts)
}

/** What to say of a shared function that returned one. */
export function returnedPromise(functionName: string): string {
  return `"${functionName}" returned a promise: what an interrupt runs must be synchronous`
}

/** The seven entries of `BUILD_INTERRUPT` with their vectors, Linux 2.6.11 `entry_arch.h`. */
export const SYSTEM_ENTRIES = [
  ['rescheduleInterrupt', VECTOR.RESCHEDULE_VECTOR],
  ['invalidateInterrupt', VECTOR.INVALIDATE_TLB_VECTOR],
  ['callFunctionInterrupt', VECTOR.CALL_FUNCTION_VECTOR],
  ['apicTimerInterrupt', VECTOR.LOCAL_TIMER_VECTOR],
  ['errorInterrupt', VECTOR.ERROR_APIC_VECTOR],
  ['spuriousInterrupt', VECTOR.SPURIOUS_APIC_VECTOR],
  ['thermalInterrupt', VECTOR.THERMAL_APIC_VECTOR],
] as const
