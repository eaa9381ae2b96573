// What an example is: a folder examples/NN-name with a main.mjs that ends by itself. Where it also has
// an expected.txt, every line of that must be somewhere in what the example prints. Lines are looked
// for one by one, and not in order, because threads do not print in order.

import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root, runNode } from './run.mjs'

const exampleTimeoutMs = 60_000

/** Having none is a failure, and never a silent pass. */
export const noExample = 'there is no example yet: examples/NN-name/main.mjs is expected.'

/** The folders of the examples, in reading order. */
export function listExamples() {
  const folder = join(root, 'examples')
  const names = existsSync(folder) ? readdirSync(folder).sort() : []
  return names
    .filter((name) => /^\d\d-/.test(name) && existsSync(join(folder, name, 'main.mjs')))
    .map((name) => join(folder, name))
}

/** Runs the example in a folder and gives the reason for which it failed, if it did. */
export async function runExample(folder) {
  const { status, signal, output } = await runNode(['main.mjs'], {
    cwd: folder,
    capture: true,
    timeoutMs: exampleTimeoutMs,
  })
  const printed = `It printed:\n${output}`
  if (signal === 'SIGKILL') return `did not end within ${exampleTimeoutMs} ms. ${printed}`
  if (status !== 0) return `ended with ${signal ?? `status ${status}`}. ${printed}`

  const expected = join(folder, 'expected.txt')
  if (!existsSync(expected)) return undefined
  const lines = readFileSync(expected, 'utf8').split(/\r?\n/)
  const missing = lines.find((line) => line.trim() !== '' && !output.includes(line))
  return missing === undefined ? undefined : `did not print "${missing}". ${printed}`
}
