/** A FIFO: whoever reads it is in a native call until the test has written. */

import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Makes a FIFO, runs a test with it, removes it. `letGo` ends the reading of whoever reads. */
export async function withFifo(
  test: (path: string, letGo: () => void) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'interprocessor-'))
  const path = join(folder, 'fifo')
  execFileSync('mkfifo', [path])
  try {
    await test(path, () => closeSync(openSync(path, 'w')))
  } finally {
    rmSync(folder, { recursive: true })
  }
}
