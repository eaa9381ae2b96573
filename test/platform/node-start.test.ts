/** What a thread reads at its start: it costs each of them time and memory, so it has a limit. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'acorn'

const dist = new URL('../../../dist/', import.meta.url)

/** Files and bytes, at most. A part that not every thread needs belongs behind an `import()`. */
const THREAD = { files: 2, bytes: 270_000 }
const PROGRAM = { files: 4, bytes: 330_000 }

/** The files that are read when a module is imported, with their sizes: what it imports, to the end. */
function filesOf(module: URL, found = new Map<string, number>()): Map<string, number> {
  if (found.has(module.href)) return found
  const text = readFileSync(module, 'utf8')
  found.set(module.href, text.length)
  for (const node of parse(text, { ecmaVersion: 'latest', sourceType: 'module' }).body) {
    const source = 'source' in node ? node.source?.value : undefined
    if (typeof source === 'string' && source.startsWith('.'))
      filesOf(new URL(source, module), found)
  }
  return found
}

function bytesOf(files: Map<string, number>): number {
  return [...files.values()].reduce((sum, bytes) => sum + bytes, 0)
}

function checkLimit(files: Map<string, number>, limit: typeof THREAD): void {
  const listed = [...files].map(([file, bytes]) => `${bytes} ${file}`).join('\n')
  assert.ok(files.size <= limit.files, `more than ${limit.files} files:\n${listed}`)
  assert.ok(bytesOf(files) <= limit.bytes, `more than ${limit.bytes} bytes:\n${listed}`)
}

const thread = filesOf(new URL('thread.js', dist))
const program = filesOf(new URL('index.js', dist))

test('a thread of the machine reads one file besides its own', () => {
  checkLimit(thread, THREAD)
  assert.deepEqual(
    [...filesOf(new URL('worker.js', dist)).keys()].slice(1),
    [...thread.keys()].slice(1),
    'a thread of the application reads another',
  )
})

test('an entry module that imports the library adds what makes machines, and the services', () => {
  checkLimit(program, PROGRAM)
  const added = new Map([...program].filter(([file]) => !thread.has(file)))
  assert.ok(bytesOf(added) > 0, 'nothing is left to a thread that does not need it')
})
