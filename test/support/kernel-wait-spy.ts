/**
 * Notes how each blocking wait of this thread ended. To be imported first: the sources take
 * `Atomics.wait` when they are loaded.
 */

/** The results since the list was emptied. */
export const waitResults: string[] = []

const { wait } = Atomics

/** Blocks as `Atomics.wait` does, and tells. */
function spiedWait(words: Int32Array, index: number, value: number, timeoutMs?: number): string {
  const result = wait(words, index, value, timeoutMs)
  waitResults.push(result)
  return result
}

Atomics.wait = spiedWait as typeof Atomics.wait
