/**
 * The memory map, what belongs to tasks: those that can be aborted, and those that were handed over.
 * Part of the one map, src/hardware/layout.ts: a change here is a change of LAYOUT_VERSION.
 */

/** How many tasks of one CPU can stand on its stack, each in front of the one before. */
export const TASK_LEVELS = 4
/** Words of a task's record. */
export const TASK_WORDS = 4
/** One task that can be aborted. */
export const TASK = {
  /** Its number and state, 0 none. The owner stores and CAS; whoever asks for its end, CAS. */
  task: 0,
  /** The last one that was asked to end, and how it ended. The owner stores, before `task`. */
  end: 1,
  /** Robust lock of the one who asks. */
  lock: 2,
  /** Where the owner shall look whether it can be aborted, and what it found. Both sides store. */
  check: 3,
} as const

/** Values of CPU.schedState. */
export const SCHED = {
  /** Takes no tasks: no thread, none that has loaded the scheduler, or one that leaves. */
  closed: 0,
  /** Runs none, and will not look again by itself. */
  idle: 1,
  /** Plus the priority of what it runs: it looks for what overtakes that only when it is told to. */
  running: 2,
} as const

/** A task: what `pool.run` hands over. */
export const TASK_SLOT = {
  /** 1 + number of the next task in the list of completions, 0 at its end. */
  next: 0,
  /** State, priority and place; kernel/sched/task.ts names the bits. Changed by compare-and-swap. */
  flags: 1,
  /** The function's name, hashed to two words. Submitter. */
  function: 2,
  /** How it ended; kernel/sched/task.ts names the values. Executor. */
  status: 4,
  /** Bytes of the encoded value in the payload, or -1 if it travels by port. */
  payloadBytes: 5,
  /** A number that no other task of this submitter has. */
  ticket: 6,
  /** What is asked of a running task, the bits of kernel/sched/task.ts. Anybody, by or. */
  control: 7,
  /** The CPUs that may run it, if its flags say that not all may: MASK_WORDS words. Submitter. */
  affinity: 8,
  /** When it was submitted, began and ended, in milliseconds: three numbers of 64 bits. */
  times: 16,
  /** Where the encoded value starts. */
  payload: 24,
} as const

/** Words of one task slot. */
export const TASK_SLOT_WORDS = 64
/** How many priorities there are. */
export const PRIORITY_COUNT = 4
