// Runs the built command line as a user does, in a process of its own that must end by itself.

import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** This file runs as build/test/cli/run-cli.js, three folders below the repository. */
const command = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url))

/** What a user's module imports: the library that the command line itself uses. */
export const library = new URL('../../../dist/index.js', import.meta.url).href

/** A process that has not ended by then never will. */
const endMs = 60_000

/** What a command left behind. `endedByItself` is false if it had to be killed. */
export type Run = {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
  readonly endedByItself: boolean
}

/** Runs the command with arguments, in a folder. */
export function runCli(args: readonly string[], cwd = tmpdir()): Promise<Run> {
  return startCli(args, cwd).ended
}

/** The same, for whoever has something to do with it meanwhile. */
export function startCli(
  args: readonly string[],
  cwd = tmpdir(),
): { readonly child: ChildProcess; readonly ended: Promise<Run> } {
  const child = spawn(process.execPath, [command, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    // Coverage and the runner's own settings are for this process.
    env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined },
  })
  const ended = new Promise<Run>((resolve, reject) => {
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const timer = setTimeout(() => child.kill('SIGKILL'), endMs)
    child.on('error', reject)
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      resolve({ status, stdout, stderr, endedByItself: signal === null })
    })
  })
  return { child, ended }
}

/** A folder with modules of a user in it, removed at the end of the block. */
export class UserFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'interprocessor-cli-'))

  constructor(modules: Readonly<Record<string, string>>) {
    for (const [name, text] of Object.entries(modules)) writeFileSync(join(this.path, name), text)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
