/**
 * One processor for each thread. A scheduler that puts two threads on one processor makes them take
 * turns, and then one that spins only keeps the other from answering. Linux only, by `taskset`.
 */

import { execFileSync } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** Set by `--pin` for every process of a run. */
const PIN = 'BENCH_PIN'

/** Whether threads are to be pinned. */
export function isPinned(): boolean {
  return process.env[PIN] === '1'
}

/** What a child process needs in its environment to pin as well. */
export function pinEnvironment(pin: boolean): NodeJS.ProcessEnv {
  return pin ? { ...process.env, [PIN]: '1' } : process.env
}

/** Keeps the calling thread on one processor: thread 0 on the first, 1 on the second, and so on. */
export function pinThread(index: number): void {
  if (!isPinned()) return
  const thread = readlinkSync('/proc/thread-self').split('/').at(-1)!
  const processor = String(index % availableParallelism())
  execFileSync('taskset', ['--pid', '--cpu-list', processor, thread], { stdio: 'ignore' })
}
