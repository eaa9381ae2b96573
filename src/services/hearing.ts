/** Whether this thread is being told of a change by another one: then it need not tell others. */

let hearing = false

/** Whether what happens now was said by another thread, and to all. */
export function isHearing(): boolean {
  return hearing
}

/** Runs what another thread has said, and to all. Synchronous. */
export function hear(act: () => void): void {
  const before = hearing
  hearing = true
  try {
    act()
  } finally {
    hearing = before
  }
}
