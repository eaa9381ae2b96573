/**
 * The failures of the world, each with a stable code. One class, one table of codes: match on `code`,
 * never on the message. docs/errors.md lists every code with its cause and its cure.
 */

/** Every code an {@link IpiError} can carry, with the sentence that defines it. */
export const IPI_ERROR_CODES = {
  IPI_INVALID_ARGUMENT: 'an argument has the wrong type, shape or range',
  IPI_INVALID_VECTOR:
    'the vector cannot be sent (16..255), or is not for handlers (32..238), or has none',
  IPI_VECTOR_IN_USE: 'the vector already has a handler on this CPU',
  IPI_NO_FREE_VECTOR: 'every vector that applications may use is taken',
  IPI_INVALID_CPU: 'the machine has no CPU of that number',
  IPI_CPU_OFFLINE: 'the CPU is possible but not online',
  IPI_CPU_ONLINE: 'the CPU is online already',
  IPI_CPU_BUSY: 'the CPU cannot be taken down, or a control operation is under way',
  IPI_CPU_DIED: 'the thread of the CPU ended before it answered',
  IPI_NO_CPU: 'a call that needs a CPU was given a mask with none online',
  IPI_NO_FREE_CPU: 'every possible CPU is in use',
  IPI_TIMEOUT: 'the deadline passed before everybody answered',
  IPI_UNKNOWN_FUNCTION: 'the target knows no shared function of that name',
  IPI_DUPLICATE_FUNCTION: 'two different shared functions bear the same name in one thread',
  IPI_ASYNC_FUNCTION: 'a function run by an interrupt returned a promise',
  IPI_UNCLONEABLE: 'a value cannot be cloned to another thread',
  IPI_WOULD_DEADLOCK: 'waiting here could wait for ever: interrupts are off, or this is a handler',
  IPI_CANNOT_BLOCK: 'this thread must not block',
  IPI_CALL_FAILED: 'a call to several CPUs failed on at least one of them',
  IPI_TYPE_CONFLICT: 'two ranges of memory overlap whose types do not go together',
  IPI_NO_FREE_RANGE: 'every place for a range of memory with a type of its own is taken',
  IPI_STORE_FULL: 'a shared store has no room left for the value',
  IPI_ALREADY_BOOTED: 'this thread already belongs to a machine',
  IPI_NOT_BOOTED: 'this thread belongs to no machine',
  IPI_MACHINE_CLOSED: 'the machine was closed',
  IPI_BOOT_FAILED: 'a CPU could not be brought up',
  IPI_HOTPLUG_VETO: 'a hotplug callback refused the transition',
  IPI_FOREIGN_MEMORY: 'the memory is not that of a machine',
  IPI_LAYOUT_VERSION: 'the memory was laid out by another version of this library',
  IPI_APIC_FAULT: 'a register access that raises a general-protection fault on hardware',
  IPI_ABORTED: 'the task that runs shall end: somebody has asked for its abort',
  IPI_QUEUE_FULL: 'as many tasks wait as may',
  IPI_POOL_CLOSED: 'the pool takes no more tasks',
  IPI_NO_FORCED_ENTRY: 'threads that do not look up cannot be reached here',
  IPI_FLUSHED: 'the value was flushed while it was being read',
  IPI_NOT_SUPPORTED: 'this environment lacks what the call needs',
} as const

/** A stable error code: a key of {@link IPI_ERROR_CODES}. */
export type IpiErrorCode = keyof typeof IPI_ERROR_CODES

/** What is known about a failure; every fact is also a field of the {@link IpiError} itself. */
export interface IpiErrorFacts {
  /** The CPU that the failure is about. */
  readonly cpu?: number
  /** Several CPUs that the failure is about, ascending. */
  readonly cpus?: readonly number[]
  /** The interrupt vector concerned, 0..255. */
  readonly vector?: number
  /** The name of the shared function concerned. */
  readonly functionName?: string
  /** How long was waited, in milliseconds. */
  readonly waitedMs?: number
  /** Whether the function had begun to run on the target when the wait ended. */
  readonly started?: boolean
  /** What the CPUs that answered in time returned, and what they threw. */
  readonly results?: ReadonlyMap<number, unknown>
  readonly errors?: ReadonlyMap<number, unknown>
  /** How a task came to its end that was cancelled. */
  readonly outcome?: string
  /** The error that caused this one. */
  readonly cause?: unknown
}

/** A failure that is no bug of this library: bad input, a late or dead thread, a missing ability. */
export class IpiError extends Error implements IpiErrorFacts {
  override readonly name: string = 'IpiError'
  /** The stable code; see {@link IPI_ERROR_CODES}. */
  readonly code: IpiErrorCode
  declare readonly cpu?: number
  declare readonly cpus?: readonly number[]
  declare readonly vector?: number
  declare readonly functionName?: string
  declare readonly waitedMs?: number
  declare readonly started?: boolean
  declare readonly results?: ReadonlyMap<number, unknown>
  declare readonly errors?: ReadonlyMap<number, unknown>
  declare readonly outcome?: string

  constructor(code: IpiErrorCode, message: string, facts: IpiErrorFacts = {}) {
    super(message, 'cause' in facts ? { cause: facts.cause } : undefined)
    this.code = code
    const { cause: _, ...fields } = facts
    Object.assign(this, fields)
  }
}

/** Whether a value is an {@link IpiError}, of this copy of the library or another. Any context. */
export function isIpiError(value: unknown): value is IpiError {
  return (
    value instanceof Error &&
    typeof (value as IpiError).code === 'string' &&
    Object.hasOwn(IPI_ERROR_CODES, (value as IpiError).code)
  )
}
