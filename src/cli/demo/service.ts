/** What the third kind is for: a service whose threads cache rows, under load. See examples. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { verify } from '../failure.ts'
import type { Step } from './stage.ts'

/** It is a program of its own, with a machine of its own: what users read is what runs. */
const PROGRAM = new URL('../../../examples/12-http-service/main.mjs', import.meta.url)
/** How long each of its three measurements takes, in milliseconds. */
const MEASURED_MS = 500
/** How long the whole of it may take. */
const PROGRAM_MS_MAX = 60_000
/** The status by which it says that it cannot run here. */
const NOT_HERE = 2

export const serviceStep: Step = {
  title: 'A service that reads what was written',
  about: 'Threads serve rows of SQLite by HTTP; another process writes, reads, and judges.',

  async run({ out }) {
    const args = ['--disable-warning=ExperimentalWarning', fileURLToPath(PROGRAM)]
    const child = spawn(process.execPath, [...args, String(MEASURED_MS)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: PROGRAM_MS_MAX,
    })
    const ended = once(child, 'exit')
    for await (const line of createInterface(child.stdout)) out.indented(line)
    const [status] = (await ended) as [number | null]
    if (status === NOT_HERE) return
    verify(status === 0, `the service ended with status ${status}, see above`)
    out.verified('no read through createCache was older than what had been acknowledged')
  },
}
