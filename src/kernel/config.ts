/** The options of a machine: their defaults, their limits, and what is wrong with bad ones. */

import { CPU_COUNT_MAX } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { HEADER, LINE_WORDS, SLOT } from '../hardware/layout.ts'
import { MachineMemory } from '../hardware/machine-memory.ts'
import { checkForceAfter } from './call-plan.ts'
import { CALL_DRIVERS, type CallDriverName } from './call-queue.ts'
import { MACHINE_STRICT_APIC } from './cpu.ts'
import type { SharedOptions } from './protocol.ts'
import { TLB_DRIVERS, type TlbDriverName } from './tlb.ts'
import { APIC_DRIVERS, chooseApicDriver, type ApicDriverName } from './send.ts'

/** What a machine is made with. */
export interface MachineOptions {
  /** How many CPUs are possible, this thread included. Default: `cpus`, or 8 if that is more. */
  readonly maxCpus?: number
  /** How interrupts are sent: `flat` (up to 8 CPUs), `bigsmp` (60), `x2apic` (256). */
  readonly apic?: ApicDriverName
  /** How calls are made: per-target queues, or the one global record of Linux 2.6.11. */
  readonly callDriver?: CallDriverName
  /** How copies of translations are kept coherent: by generations, or as Linux 2.6.11 did. */
  readonly tlbDriver?: TlbDriverName
  /**
   * Flushes of one address space or cache that a thread may be behind and still forget only what was
   * flushed; one that is further behind forgets everything. A power of two. Default 1,024.
   */
  readonly flushLogSize?: number
  /** The deadline of a wait that names none, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number
  /** How long a thread may take to become a CPU, in milliseconds. Default 10,000. */
  readonly bootTimeoutMs?: number
  /** After how many milliseconds a waiting call is reported as stuck. Default 5,000. */
  readonly watchdogMs?: number
  /**
   * After how many milliseconds a thread that has come to neither its event loop nor a safepoint is
   * reported as stuck, as `soft`, on every thread that listens. Default 20,000. Infinity: never.
   */
  readonly softLockupMs?: number
  /** The same of a CPU that has interrupts off and takes none, as `hard`. Default 10,000. */
  readonly hardLockupMs?: number
  /**
   * After how many milliseconds a call, a flush or a rescheduling that is not answered is delivered by
   * force, if what it would run is interrupt-safe. Default Infinity: never. Throws `IPI_NO_FORCED_ENTRY` where there
   * is nothing of the kind.
   */
  readonly forceAfterMs?: number
  /**
   * The longest time an idle CPU polls before it parks, in milliseconds; it polls only as long as
   * that pays. 0: never. Infinity: always, as `idle=poll`. Default 0.2.
   */
  readonly haltPollMs?: number
  /** Calls that one CPU can have under way. Default 64, or `maxCpus` if that is more. */
  readonly slotCount?: number
  /** Bytes of shared memory per call; larger values travel by message port. Default 1,024. */
  readonly slotBytes?: number
  /**
   * Tasks that one CPU can have handed over to the others at once; more wait where they were made. A
   * power of two. Default 1,024, or what leaves room for 262,144 in the machine.
   */
  readonly taskCount?: number
  /** Refuse APIC commands that the manual leaves undefined. Default false. */
  readonly strictApic?: boolean
  /**
   * Node 24 and later leave the look for interrupts out of some optimised loops, and then neither an
   * NMI nor `terminate()` nor `process.exit()` gets into them. True asks V8 not to, which may cost
   * tiny inner loops half of their speed, in all of the process. Default false.
   */
  readonly pollEveryLoop?: boolean
  /**
   * For development: finds handlers and interrupt-safe functions that return promises, block, wait for a
   * lock of the code that they interrupt, run for too long, or start timers where they must not; tells
   * each as the event `violation`. It stands in for the functions of `Atomics` meanwhile. Default false.
   */
  readonly checkHandlers?: boolean
  /** How long a handler may run under `checkHandlers`, in milliseconds. Default 5. */
  readonly handlerBudgetMs?: number
}

/** What `boot` takes. */
export interface BootOptions extends MachineOptions {
  /** How many CPUs to bring up, this thread included. Default: the machine's processors. */
  readonly cpus?: number
  /** The module that every other CPU imports first: a URL, or an absolute path. */
  readonly entry?: { readonly href: string } | string
  /** Options for the environment's worker constructor, such as Node's `resourceLimits`. */
  readonly workerOptions?: object
}

const DEFAULTS = {
  maxCpus: 8,
  timeoutMs: 30_000,
  bootTimeoutMs: 10_000,
  watchdogMs: 5_000,
  // As `watchdog_thresh`: the soft limit is twice the hard one.
  softLockupMs: 20_000,
  hardLockupMs: 10_000,
  haltPollMs: 0.2,
  forceAfterMs: Infinity,
  // A collection of garbage, or another thread on the same processor, takes some of it.
  handlerBudgetMs: 5,
  slotCount: 64,
  slotBytes: 1024,
  flushLogSize: 1024,
  taskCount: 1024,
} as const

/** The smallest slot: a header line and a payload line. */
const SLOT_BYTES_MIN = 2 * LINE_WORDS * 4
const SLOT_BYTES_MAX = 1 << 20
const SLOT_COUNT_MAX = 4096
const FLUSH_LOG_SIZE_MAX = 1 << 16
/** Tasks of a whole machine: their numbers share a word with a count (kernel/sched/run-queue.ts). */
const TASKS_MAX = 1 << 18

/** Checks `cpus` of boot. Throws `IPI_INVALID_ARGUMENT`. */
export function checkCpuCount(cpus: number): number {
  return integer('cpus', cpus, 1, CPU_COUNT_MAX)
}

/** The options that every CPU of a machine gets to know. Throws `IPI_INVALID_ARGUMENT`. */
export function sharedOptions(options: MachineOptions): SharedOptions {
  return {
    timeoutMs: duration('timeoutMs', options.timeoutMs ?? DEFAULTS.timeoutMs),
    bootTimeoutMs: duration('bootTimeoutMs', options.bootTimeoutMs ?? DEFAULTS.bootTimeoutMs),
    watchdogMs: duration('watchdogMs', options.watchdogMs ?? DEFAULTS.watchdogMs),
    haltPollMs: duration('haltPollMs', options.haltPollMs ?? DEFAULTS.haltPollMs),
    forceAfterMs: checkForceAfter(options.forceAfterMs ?? DEFAULTS.forceAfterMs),
    softLockupMs: lockupLimit('softLockupMs', options.softLockupMs ?? DEFAULTS.softLockupMs),
    hardLockupMs: lockupLimit('hardLockupMs', options.hardLockupMs ?? DEFAULTS.hardLockupMs),
    checkHandlers: options.checkHandlers === true,
    handlerBudgetMs: duration(
      'handlerBudgetMs',
      options.handlerBudgetMs ?? DEFAULTS.handlerBudgetMs,
    ),
  }
}

/** Lays out the memory of a machine by its options. Throws `IPI_INVALID_ARGUMENT`. */
export function createMemory(options: MachineOptions, cpus: number): MachineMemory {
  const maxCpus = options.maxCpus ?? Math.max(cpus, DEFAULTS.maxCpus)
  const cpuCount = integer('maxCpus', maxCpus, cpus, CPU_COUNT_MAX)
  const slotDefault = Math.max(DEFAULTS.slotCount, cpuCount)
  const slotCount = integer('slotCount', options.slotCount ?? slotDefault, cpuCount, SLOT_COUNT_MAX)
  const slotBytes = integer(
    'slotBytes',
    options.slotBytes ?? DEFAULTS.slotBytes,
    SLOT_BYTES_MIN,
    SLOT_BYTES_MAX,
  )
  const apic = chooseApicDriver(cpuCount, options.apic)
  const callDriver = options.callDriver ?? CALL_DRIVERS[0]
  if (!CALL_DRIVERS.includes(callDriver)) {
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `callDriver: "${String(callDriver)}" is no call driver; use ${CALL_DRIVERS.join(' or ')}`,
    )
  }
  const tlbDriver = options.tlbDriver ?? TLB_DRIVERS[0]
  if (!TLB_DRIVERS.includes(tlbDriver)) {
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `tlbDriver: "${String(tlbDriver)}" is no TLB driver; use ${TLB_DRIVERS.join(' or ')}`,
    )
  }
  const slotWords = Math.ceil(slotBytes / 4 / LINE_WORDS) * LINE_WORDS
  const memory = MachineMemory.create({
    cpuCount,
    slotCount,
    slotWords: Math.max(slotWords, SLOT.payload + LINE_WORDS),
    flushLogSize: powerOfTwo('flushLogSize', options.flushLogSize ?? DEFAULTS.flushLogSize),
    taskCount: checkTaskCount(options.taskCount, cpuCount),
  })
  memory.words[HEADER.apicDriver] = APIC_DRIVERS.indexOf(apic)
  memory.words[HEADER.callDriver] = CALL_DRIVERS.indexOf(callDriver)
  memory.words[HEADER.tlbDriver] = TLB_DRIVERS.indexOf(tlbDriver)
  memory.words[HEADER.machineFlags] = options.strictApic === true ? MACHINE_STRICT_APIC : 0
  return memory
}

function checkTaskCount(wanted: number | undefined, cpuCount: number): number {
  const most = 2 ** Math.floor(Math.log2(TASKS_MAX / cpuCount))
  const taskCount = wanted ?? Math.min(DEFAULTS.taskCount, most)
  if (Number.isInteger(Math.log2(taskCount))) return integer('taskCount', taskCount, 2, most)
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `taskCount is a power of two from 2 to ${most}, got ${String(taskCount)}`,
  )
}

function integer(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `${name} is an integer from ${least} to ${most}, got ${String(value)}`,
  )
}

function powerOfTwo(name: string, value: number): number {
  const checked = integer(name, value, 1, FLUSH_LOG_SIZE_MAX)
  if ((checked & (checked - 1)) === 0) return checked
  throw new IpiError('IPI_INVALID_ARGUMENT', `${name} is a power of two, got ${checked}`)
}

/** Below some milliseconds every collection of garbage would be a lockup. */
const LOCKUP_MS_MIN = 10

function lockupLimit(name: string, value: number): number {
  if (typeof value === 'number' && value >= LOCKUP_MS_MIN) return value
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `${name} is milliseconds >= ${LOCKUP_MS_MIN} or Infinity, got ${String(value)}`,
  )
}

function duration(name: string, value: number): number {
  if (typeof value === 'number' && value >= 0) return value
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `${name} is milliseconds >= 0 or Infinity, got ${String(value)}`,
  )
}
