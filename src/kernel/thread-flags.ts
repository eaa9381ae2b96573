/** Thread flags, Linux 2.6.11 `include/asm-i386/thread_info.h`: what a CPU must do before it goes on. */

/**
 * Flag bits. Only NEED_RESCHED, POLLING and SCHEDULE_UNSAFE are ever set by this library; the last is
 * none of Linux.
 */
export const TIF = {
  SYSCALL_TRACE: 1 << 0,
  NOTIFY_RESUME: 1 << 1,
  SIGPENDING: 1 << 2,
  NEED_RESCHED: 1 << 3,
  SINGLESTEP: 1 << 4,
  IRET: 1 << 5,
  SYSCALL_AUDIT: 1 << 7,
  POLLING_NRFLAG: 1 << 16,
  MEMDIE: 1 << 17,
  /** Its scheduler may not run in the middle of other JavaScript: to force one in would be in vain. */
  SCHEDULE_UNSAFE: 1 << 18,
} as const

/** `_TIF_WORK_MASK`: the low sixteen bits without system-call trace, audit and single-step. */
export const TIF_WORK_MASK = 0xff6e

/** What the return to an interrupted application must do: nothing, reschedule, or signals. */
export function exitWork(flags: number): 'none' | 'schedule' | 'signals' {
  const work = flags & TIF_WORK_MASK
  if (work === 0) return 'none'
  return (work & TIF.NEED_RESCHED) !== 0 ? 'schedule' : 'signals'
}
