/**
 * The memory map: where every shared word of a machine stands, who writes it and who reads it.
 *
 *   header            one, words shared by all CPUs
 *   space logs        one per address space, the table `SPACE`, and `flushLogSize` flush records
 *   CPU block         one per possible CPU:
 *     APIC page       4 KiB, architectural offsets (Intel SDM vol. 3, chapter "APIC")
 *     per-CPU page    4 KiB, the table `CPU` below
 *     TLB page        4 KiB, one line per address space, the table `TLB` below
 *     request slots   `slotCount` slots of `slotWords`, the table `SLOT` below
 *     run queue       a ring of task numbers for each priority
 *     tasks           `taskCount` slots of TASK_SLOT_WORDS, the table `TASK_SLOT`
 *
 * Offsets are in 32-bit words. Words that different CPUs write often stand on different cache lines
 * of sixteen words; masks that change only when a CPU comes or goes share some. One line is shared on
 * purpose: the posted-interrupt descriptor, so that a sender who posts touches one line of the
 * target.
 *
 * Any change here is a change of the layout: raise LAYOUT_VERSION.
 */

import { MASK_WORDS } from '../base/cpu-mask.ts'
import {
  LINE_WORDS,
  MM_COUNT_MAX,
  RECORD_WORDS,
  SPACE,
  TYPE_COUNT_MAX,
  TYPE_WORDS,
} from './layout-spaces.ts'
import { PRIORITY_COUNT, TASK_SLOT_WORDS } from './layout-tasks.ts'

export * from './layout-spaces.ts'
export * from './layout-tasks.ts'

/** "IPI1" in ASCII: the first word of every machine's memory. */
export const MAGIC = 0x49504931
/** The version of this map. A map of another version is refused at attach. */
export const LAYOUT_VERSION = 5

/** Words in a page of 4 KiB. */
export const PAGE_WORDS = 1024

/** The header. */
export const HEADER = {
  /** MAGIC. Written once by the creator; read at attach. */
  magic: 0,
  /** LAYOUT_VERSION. Written once; read at attach. */
  layoutVersion: 1,
  /** How many CPUs are possible. Written once. */
  cpuCount: 2,
  /** Request slots per CPU. Written once. */
  slotCount: 3,
  /** Words per request slot. Written once. */
  slotWords: 4,
  /** Which APIC driver sends: an index into the drivers of kernel/send.ts. Written once. */
  apicDriver: 5,
  /** Which call-function driver runs: 0 queues, 1 `call_data`. Written once. */
  callDriver: 6,
  /** Flags of the machine: bit 0 strict APIC. Written once. */
  machineFlags: 7,
  /** Which TLB driver keeps translations coherent: an index into TLB_DRIVERS. Written once. */
  tlbDriver: 12,
  /** Flush records that the log of an address space holds. Written once. */
  flushLogSize: 13,
  /** Task slots per CPU, a power of two. Written once. */
  taskCount: 8,

  /** CPUs whose thread exists: written by the creator with atomic or/and; read by everybody. */
  presentMask: 16,
  /** CPUs that take interrupts: each CPU sets its own bit, and clears it or is cleared at death. */
  onlineMask: 16 + MASK_WORDS,
  /** `cpu_callout_map`: the boot CPU lets an AP proceed. */
  calloutMask: 32,
  /** `cpu_callin_map`: the AP has finished its basic set-up. Written by the AP. */
  callinMask: 32 + MASK_WORDS,
  /** `smp_commenced_mask`: the boot CPU releases the AP. */
  commencedMask: 48,
  /** Vectors handed out by allocVector, 256 bits. Atomic or/and. */
  vectorMask: 48 + MASK_WORDS,

  /** Raised by whoever changes an APIC's identity; senders rebuild their map when it moved. */
  apicMapGeneration: 64,
  /** The incarnation counter: raised at every attach, so that no two lives share a number. */
  incarnation: 80,
  /** How many threads were buried: a CPU that sees it move sweeps its requests to the dead. */
  burials: 81,
  /** Robust lock of the one control operation (hotplug, stop) at a time: see kernel/robust-lock.ts. */
  controlLock: 96,

  /** `call_lock` of the 2.6.11 driver: robust lock. */
  callLock: 112,
  /** `call_data`: the lock's word of the holder whose record is published, 0 the idle no-op record. */
  callData: 113,
  /** CPUs counted for this request, MASK_WORDS words. Written by the lock's holder. */
  callMask: 128,
  /** CPUs that have copied the record: each sets its own bit. Stands for `started`. */
  callStarted: 144,
  /** CPUs that have run the function: each sets its own bit. Stands for `finished`. */
  callFinished: 144 + MASK_WORDS,
  /** Which of the initiator's slots belongs to which CPU: one word per possible CPU. */
  callSlots: 160,

  /** `tlbstate_lock`: robust lock of the one global flush request. */
  tlbLock: 416,
  /** `flush_mm`: the address-space record concerned. Written by the lock's holder. */
  flushMm: 417,
  /** `flush_va`: the address, or FLUSH_ALL. Written by the lock's holder. */
  flushVa: 418,
  /** The number of the request, raised by the lock's holder when the rest is written. */
  flushSequence: 419,
  /**
   * `flush_cpumask`: CPUs that have not flushed yet; each clears its own bit. To be looked at:
   * what counts is CPU.flushAck, which a slow CPU cannot set for another's request.
   */
  flushMask: 432,

  /** The rendezvous of the holder of the control lock: sequence << 3 | phase. */
  stopState: 448,
  /** Who began it: 1 + its number, and its incarnation. Written before the state. */
  stopInitiator: 449,
  /** Who takes part, and who runs the function of stop-machine. */
  stopParticipants: 464,
  stopRunners: 464 + MASK_WORDS,
  /** 1 + the CPU that stopped all others with smpSendStop, 0 nobody. Compare-and-swap. */
  stoppingCpu: 480,

  /** How often each variable memory type range is in use. Control lock, or a rendezvous. */
  mtrrUsage: 496,
  /** 1 once some CPU has made a pool: each CPU that comes up later opens its run queue. */
  schedulerWanted: 504,
  /** Raised whenever a run queue is opened or closed: submitters then look after their tasks. */
  schedulerChanges: 505,

  /** The address-space table: MM_COUNT_MAX records of MM_WORDS. */
  mmTable: 512,
  /** 1 + the memory type of the keys of each address space that no range names; 0 not declared. */
  spaceTypes: 1536,
  /** TYPE_COUNT_MAX ranges of keys that have a type of their own, TYPE_WORDS each. */
  typeTable: 1536 + MM_COUNT_MAX,
} as const

/** Words of the header. */
export const HEADER_WORDS = HEADER.typeTable + TYPE_COUNT_MAX * TYPE_WORDS

/** The per-CPU page, after the APIC page. */
export const CPU = {
  /** Posted-interrupt descriptor, one line: 256 posted vectors. Senders or; the owner exchanges. */
  pir: 0,
  /**
   * Why the owner should look: the bits of ATTENTION. Senders or, or compare-and-swap 0 for a single
   * vector; the owner exchanges with 0.
   */
  attention: 8,
  /** The doorbell: changes whenever a sleeping owner is rung. Senders add; the owner waits on it. */
  doorbell: 9,
  /** NMIs posted and not yet harvested. Senders add; the owner exchanges. */
  nmiPosts: 10,
  /** The INIT and start-up latches in one word, INIT_SIPI. Senders replace; the owner exchanges. */
  initSipi: 11,
  /** Forced entry, the bits of FORCED. The owner and whoever has it entered, by atomic or/and. */
  forced: 12,

  /** Vectors posted level-triggered. Senders or; the owner ands what it took. */
  levelPosts: 16,

  /** Thread flags: TIF_NEED_RESCHED, TIF_POLLING_NRFLAG. Anybody, by atomic or/and. */
  threadFlags: 32,
  /**
   * The CPU state, one of CPU_STATE. The owner writes; senders read after posting. Not on the
   * descriptor's line, which is on its way to the owner while a sender reads this.
   */
  state: 33,

  /** What this CPU does, for diagnostics. The owner writes; waiters read. */
  incarnation: 48,
  apicBase: 49,
  currentRequest: 50,
  currentFunction: 51,
  currentVector: 53,
  interruptsOff: 54,
  /** How often this CPU was seen to take interrupts, for lockup detectors. The owner writes. */
  signs: 56,
  /** Stop-machine: the last state word this CPU has acknowledged. The owner writes. */
  stopAck: 57,
  /** The last flush request that this CPU has answered. The owner writes. */
  flushAck: 55,
  /** `cpu_tlbstate`: the active address space and OK or LAZY. The owner writes. */
  activeMm: 58,
  tlbState: 59,
  /** Completed requests that the owner has taken off its list and not closed: 1 + slot, or 0. */
  completionsTaken: 60,

  /** The last change of memory types after which this CPU has written out all that it held back. */
  typesDrained: 61,

  /** Call queue: 1 + global slot number of the newest request, 0 empty, or CLOSED. */
  callQueue: 64,
  /** Completed requests of this CPU, a list like the call queue. Targets push; the owner takes. */
  completions: 80,
  /** Who wants to know what this CPU does, MASK_WORDS words. Askers or; the owner ands. */
  stackAskers: 96,

  /** Dispatches per vector, 256 words. The owner writes; anybody reads. */
  vectorCounts: 128,
  /** Other counts, the names of EVENT_NAMES. The owner writes; anybody reads. */
  eventCounts: 384,

  /**
   * The run queue: for each priority a line with the head of its ring and a line with its tail, numbers
   * that only grow. Anybody, by compare-and-swap: kernel/sched/run-queue.ts.
   */
  runQueue: 640,
  /** What the scheduler of this CPU runs, one of SCHED or SCHED.running + priority. The owner writes. */
  schedState: 768,
  /** Tasks of this CPU that were completed, a list like `completions`. Executors push; the owner takes. */
  taskCompletions: 784,
  /** Completed tasks that the owner has taken off its list and not closed: 1 + task, or 0. */
  tasksTaken: 800,
  /** Memory type range registers: hardware/mtrr.ts. The owner writes; a CPU that comes later reads. */
  mtrr: 816,
  /** Tasks that can be aborted, TASK_LEVELS records of TASK_WORDS; see kernel/task-words.ts. */
  tasks: 992,
} as const

/**
 * Bits of the attention word. Bits 0 to 7 say which words of `pir` have something in them. A vector
 * that is posted while nothing else is stands in the word itself: `single`, and the vector from
 * ATTENTION_VECTOR_SHIFT on.
 */
export const ATTENTION = {
  nmi: 1 << 8,
  initSipi: 1 << 9,
  /** Some posted vector is level-triggered. */
  level: 1 << 10,
  /** A request of this CPU was completed. */
  completion: 1 << 11,
  /** Something that this CPU may be waiting for has changed. */
  wake: 1 << 12,
  /** A task of this CPU was completed, or reports its progress. */
  tasks: 1 << 14,
  /** The vector in the upper bits is posted, edge-triggered. Set only where the word was 0. */
  single: 1 << 13,
} as const

/** Bits of the word that says how it stands with forced entry of a CPU. */
export const FORCED = {
  /** Its thread can be entered. */
  ready: 1,
  /** An entry was asked for, and has not begun: it will find whatever is posted before that. */
  asked: 2,
  /** Its thread has ended in good order, and it has no other yet. */
  left: 4,
} as const

/** Where the vector of ATTENTION.single starts. */
export const ATTENTION_VECTOR_SHIFT = 24

/** Fields of the word that latches INIT and start-up: one word, because an INIT cancels a start-up. */
export const INIT_SIPI = {
  /** The start-up vector, if `sipi` is set. */
  vectorMask: 0xff,
  sipi: 0x100,
  init: 0x200,
} as const

/** What a CPU is doing, as far as a sender must know (docs/memory-map.md draws the transitions). */
export const CPU_STATE = {
  /** No thread, or one that has not attached. */
  offline: 0,
  /** Attached; takes INIT and start-up only. */
  waitingForSipi: 1,
  /** Looks at `attention` by itself: now, in a blocking wait, or in the next turn of its event loop. */
  running: 2,
  /** Spinning on `attention`, idle. */
  polling: 3,
  /** Under its event loop; an asynchronous wait is armed on the doorbell. */
  parked: 4,
  /** Blocked on the doorbell. */
  halted: 5,
  /** Stopped by smpSendStop: APIC disabled, halted for ever. */
  stopped: 6,
  /** The thread has ended. Written by whoever buries it. */
  dead: 7,
} as const

/** A request slot: what the kernel calls a csd, `struct __call_single_data`. */
export const SLOT = {
  /** 1 + global number of the next slot in the list it is on, 0 at its end, or UNPUSHED. */
  next: 0,
  /** State and type; kernel/request.ts names the bits. The one word both sides change. */
  flags: 1,
  /** Initiator and target CPU. The initiator writes before the push. */
  source: 2,
  target: 3,
  /** The function's name, hashed to two words. */
  function: 4,
  /** Target: how it ended; kernel/request.ts names the values. */
  status: 6,
  /** Bytes of the encoded value in the payload, or -1 if it travels by port. */
  payloadBytes: 7,
  /** A number that no other request of this initiator has: pairs a request with its port message. */
  ticket: 8,
  /** Where the encoded value starts. */
  payload: 16,
} as const

/** The sizes a machine is created with. */
export interface MachineSize {
  /** How many CPUs are possible, 1..256. */
  readonly cpuCount: number
  /** Request slots per CPU: how many calls one CPU can have under way. */
  readonly slotCount: number
  /** Words per slot; a value whose encoding fits the payload part travels in it. */
  readonly slotWords: number
  /** Records in the flush log of each address space, a power of two. */
  readonly flushLogSize: number
  /** Task slots per CPU, a power of two: how many tasks one CPU can have handed over. */
  readonly taskCount: number
}

/** Cells of the ring of one priority: a CPU's own tasks twice over, since others submit as well. */
export function ringCells(size: Pick<MachineSize, 'taskCount'>): number {
  return 2 * size.taskCount
}

/** Words of one CPU block. */
export function cpuBlockWords(size: MachineSize): number {
  return (
    3 * PAGE_WORDS +
    size.slotCount * size.slotWords +
    PRIORITY_COUNT * ringCells(size) +
    size.taskCount * TASK_SLOT_WORDS
  )
}

/** Words of one address space's log. */
function spaceWords({ flushLogSize }: MachineSize): number {
  return SPACE.log + Math.ceil((flushLogSize * RECORD_WORDS) / LINE_WORDS) * LINE_WORDS
}

/** The first word of an address space's log: add an offset of SPACE. */
export function spaceLog(size: MachineSize, mm: number): number {
  return alignToPage(HEADER_WORDS) + mm * spaceWords(size)
}

/** Words of a whole machine. */
export function machineWords(size: MachineSize): number {
  return apicPage(size, size.cpuCount)
}

/** The first word of a CPU's APIC page. */
export function apicPage(size: MachineSize, cpu: number): number {
  return alignToPage(spaceLog(size, MM_COUNT_MAX)) + cpu * cpuBlockWords(size)
}

function alignToPage(words: number): number {
  return Math.ceil(words / PAGE_WORDS) * PAGE_WORDS
}
