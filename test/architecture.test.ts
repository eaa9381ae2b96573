// The walls of the source tree: imports go down only, one file names `Atomics`, the lower rooms need
// nothing but JavaScript, and every file is small enough to be held in the head.
//
// Each wall is a function from sources to complaints. It is asked about the real sources, which must
// give none, and about a few lines that break it, because a wall that stops nothing looks the same
// from outside as one that has nothing to stop.

import { readFileSync, readdirSync } from 'node:fs'
import { posix } from 'node:path'
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'

/** Paths below src, with slashes on every system, and the texts of the files. */
type Sources = ReadonlyMap<string, string>

type Import = {
  readonly specifier: string
  readonly line: number
  /** Erased by the compiler, so that nothing is loaded. */
  readonly typeOnly: boolean
  /** `new URL(…, import.meta.url)`: it may name a file that is no module. */
  readonly url: boolean
}

const lineLimit = 400
const entryFiles = [
  'bentocache.ts',
  'index.ts',
  'index.web.ts',
  'lru-cache.ts',
  'piscina.ts',
  'piscina-thread.ts',
  'testing.ts',
  'thread.ts',
  'worker.ts',
]
const portableRooms = ['base', 'hardware', 'kernel']
const fileThatNamesAtomics = 'hardware/memory.ts'

/**
 * What each room may import besides itself. `entry` stands for the files beside the rooms: they bind
 * a platform to the machine, and the programs at the top use the result.
 */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  hardware: ['base'],
  kernel: ['base', 'hardware'],
  services: ['base', 'hardware', 'kernel'],
  platform: ['base', 'hardware'],
  cli: ['base', 'hardware', 'kernel', 'services', 'platform', 'entry'],
  web: ['base', 'hardware', 'kernel', 'services', 'platform', 'entry'],
  testing: ['base', 'hardware', 'kernel', 'services', 'platform', 'entry'],
  entry: ['base', 'hardware', 'kernel', 'services', 'platform', 'cli', 'web', 'testing'],
}

/** A platform speaks of the kernel's things but starts none of them. */
const mayImportTypes: Readonly<Record<string, readonly string[]>> = { platform: ['kernel'] }

// What a scanner must know of JavaScript to tell a comment from a text that looks like one.
const comment = /\/\/[^\n]*|\/\*[^]*?\*\//
const quoted = /'(?:\\[^]|[^'\\\n])*'|"(?:\\[^]|[^"\\\n])*"/
const template = /`(?:\\[^]|[^`\\])*`/
const pattern = /(?<=[=(,:;!&|?[{\n]\s*|\breturn\s+)\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\//
const token = new RegExp(
  `${comment.source}|${quoted.source}|${template.source}|${pattern.source}`,
  'g',
)

const blank = (text: string): string => text.replaceAll(/[^\n]/g, ' ')

function withoutComments(text: string): string {
  return text.replaceAll(token, (found) => (/^\/[/*]/.test(found) ? blank(found) : found))
}

/**
 * Only what can be an import is left. Templates go, for a usage text may well show one, and what
 * cannot be in the name of a file goes from strings, for a message may well advise one.
 */
function withoutProse(text: string): string {
  return text.replaceAll(token, (found) => {
    if (/^(?:\/[/*]|`)/.test(found)) return blank(found)
    if (!/^['"]/.test(found)) return found
    return found[0] + found.slice(1, -1).replaceAll(/[^\w./@:#-]/g, '_') + found[0]
  })
}

const importForms = [
  /\bimport\s+(?<type>type\s+)?[\w$*{},\s]+?\bfrom\s*(?<specifier>'[^']*'|"[^"]*")/g,
  /\bexport\s+(?<type>type\s+)?(?:\*[\w$\s]*|\{[^}]*\}\s*)from\s*(?<specifier>'[^']*'|"[^"]*")/g,
  /\bimport\s*(?<specifier>'[^']*'|"[^"]*")/g,
  /\b(?<type>typeof\s+)?import\s*\(\s*(?<specifier>[^)]*)/g,
  /\b(?<url>new\s+URL)\(\s*(?<specifier>'\.[^']*'|"\.[^"]*")\s*,\s*import\.meta\.url/g,
]

function importsOf(text: string): Import[] {
  const code = withoutProse(text)
  const matches = importForms.flatMap((form) => [...code.matchAll(form)])
  return matches.map((match) => ({
    specifier: (match.groups?.['specifier'] ?? '').trim().replaceAll(/^['"]|['"].*$/gs, ''),
    line: code.slice(0, match.index).split('\n').length,
    typeOnly: match.groups?.['type'] !== undefined,
    url: match.groups?.['url'] !== undefined,
  }))
}

/** The room of a file below src, or nothing when it lies where no room is. */
function roomOf(file: string): string | undefined {
  if (entryFiles.includes(file)) return 'entry'
  const room = file.split('/')[0] ?? ''
  return file.includes('/') && Object.hasOwn(mayImport, room) ? room : undefined
}

/** The room that an import leads to, or nothing when it leads out of src. */
function targetRoom(file: string, { specifier }: Import): string | undefined {
  if (/^interprocessor(?:\/|$)/.test(specifier)) return 'entry'
  if (!specifier.startsWith('.')) return undefined
  const target = posix.join(posix.dirname(file), specifier).replace(/\.js$/, '.ts')
  return target.startsWith('../') ? undefined : (roomOf(target) ?? `a file in no room (${target})`)
}

function importsThatGoUp(sources: Sources): string[] {
  return [...sources].flatMap(([file, text]) => {
    const room = roomOf(file)
    if (room === undefined) return [`${file} is in no room`]
    const allowed = [room, ...(mayImport[room] ?? [])]
    const allowedAsTypes = [...allowed, ...(mayImportTypes[room] ?? [])]

    return importsOf(text).flatMap((found) => {
      const target = targetRoom(file, found)
      if (target === undefined) {
        const leavesSrc = found.specifier.startsWith('.') && !found.url
        return leavesSrc ? [`${file}:${found.line} imports from outside src`] : []
      }
      const fine = (found.typeOnly ? allowedAsTypes : allowed).includes(target)
      return fine ? [] : [`${file}:${found.line} imports ${target}, which ${room} may not`]
    })
  })
}

function filesThatNameAtomics(sources: Sources): string[] {
  const naming = [...sources].filter(([, text]) => /\bAtomics\b/.test(withoutComments(text)))
  return naming.map(([file]) => file)
}

function importsOfTheEnvironment(sources: Sources): string[] {
  const portable = [...sources].filter(([file]) => portableRooms.includes(roomOf(file) ?? ''))
  return portable.flatMap(([file, text]) => {
    const foreign = importsOf(text).filter(({ specifier }) => !/^\.\.?\//.test(specifier))
    return foreign.map(({ line, specifier }) => `${file}:${line} imports ${specifier}`)
  })
}

function filesTooLong(sources: Sources): string[] {
  const lengths = [...sources].map(([file, text]) => {
    const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
    return { file, lines }
  })
  const long = lengths.filter(({ lines }) => lines > lineLimit)
  return long.map(({ file, lines }) => `${file} has ${lines} lines, and ${lineLimit} is the limit`)
}

/** This file runs as build/test/architecture.test.js, two folders below the repository. */
function readSources(): Sources {
  const folder = fileURLToPath(new URL('../../src/', import.meta.url))
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => posix.join(entry.parentPath.replaceAll('\\', '/'), entry.name))
    .map((path) => path.slice(folder.length))
    .sort()
  return new Map(files.map((file) => [file, readFileSync(folder + file, 'utf8')]))
}

const sources = readSources()
const typeScript = new Map([...sources].filter(([file]) => file.endsWith('.ts')))

test('imports go down only, from room to room', () => {
  assert.ok(typeScript.size > 0, 'no sources were found')
  assert.deepEqual(importsThatGoUp(typeScript), [])
})

test('exactly one file names Atomics', () => {
  assert.deepEqual(filesThatNameAtomics(typeScript), [fileThatNamesAtomics])
})

test('the portable rooms import neither packages nor parts of Node', () => {
  assert.deepEqual(importsOfTheEnvironment(typeScript), [])
})

test(`no source file is longer than ${lineLimit} lines`, () => {
  assert.deepEqual(filesTooLong(sources), [])
})

test('the import wall stops what goes up, sideways and out, in every form', () => {
  const up: Readonly<Record<string, string>> = {
    'base/a.ts': `import { b } from '../hardware/b.ts'`,
    'hardware/a.ts': `import {\n  type B,\n  c,\n} from "../kernel/b.ts"`,
    'kernel/a.ts': `export * from '../services/pool.ts'`,
    'kernel/b.ts': `import type { Pool } from '../services/pool.ts'`,
    'kernel/c.ts': `const node = await import('../platform/node.ts')`,
    'kernel/d.ts': `import '../index.ts'`,
    'services/a.ts': `export { node as n } from '../platform/node.ts'`,
    'services/b.ts': `new Worker(new URL('../worker.js', import.meta.url))`,
    'services/c.ts': `import { boot } from 'interprocessor'`,
    'platform/a.ts': `import { send } from '../kernel/send.ts'`,
    'platform/b.ts': `import type { Pool } from '../services/pool.ts'`,
    'cli/a.ts': `import { explore } from '../testing/explore.ts'`,
    'testing/a.ts': `import { help } from '../../test/help.ts'`,
    'common/a.ts': ``,
    'utils.ts': ``,
  }
  for (const [file, text] of Object.entries(up)) {
    assert.equal(importsThatGoUp(new Map([[file, text]])).length, 1, `${file}: ${text}`)
  }
})

test('the import wall lets through what goes down', () => {
  const down: Readonly<Record<string, string>> = {
    'kernel/a.ts': `import { or } from '../hardware/memory.ts'\nimport { b } from './b.ts'`,
    'hardware/apic/a.ts': `import { assert } from '../../base/assert.ts'`,
    'platform/a.ts': `import type { Vector } from '../kernel/vectors.ts'\nimport 'node:fs'`,
    'cli/a.ts': `import { boot } from '../index.ts'\nnew URL('../../package.json', import.meta.url)`,
    'index.ts': `export { node } from './platform/node.ts'\nexport type { Pool } from './services/pool.ts'`,
    'kernel/c.ts': `const advice = "first import 'interprocessor/worker' or import('node:fs')"`,
    'kernel/b.ts': `// import '../services/pool.ts'\nconst usage = \`import '../index.ts'\``,
  }
  assert.deepEqual(importsThatGoUp(new Map(Object.entries(down))), [])
})

test('the Atomics wall looks into code and strings, and not into comments', () => {
  const naming = [
    `const load = Atomics.load`,
    `const url = 'https://example.org' + globalThis['Atomics']`,
    `const quote = /['"\`]/\nconst wait = Atomics.wait // why`,
    `const half = a / 2 /* and */ + Atomics.load(b, 0) / c`,
    `\`\${Atomics.load(words, 0)} \\\` // \``,
  ]
  const silent = [
    `// Atomics`,
    `/** A word for \`Atomics.wait\`. */ const text = '//' // Atomics`,
    `const quote = /[/'"]/ // Atomics and 'Atomics'`,
    `const AtomicsLike = 1`,
  ]
  for (const text of naming) {
    assert.deepEqual(filesThatNameAtomics(new Map([['kernel/a.ts', text]])), ['kernel/a.ts'], text)
  }
  for (const text of silent) {
    assert.deepEqual(filesThatNameAtomics(new Map([['kernel/a.ts', text]])), [], text)
  }
})

test('the portable wall stops packages, parts of Node and imports it cannot read', () => {
  const foreign = [
    `import { readFileSync } from 'node:fs'`,
    `import { Command } from 'commander'`,
    `const module = await import(name)`,
  ]
  for (const text of foreign) {
    assert.equal(importsOfTheEnvironment(new Map([['kernel/a.ts', text]])).length, 1, text)
    assert.deepEqual(importsOfTheEnvironment(new Map([['cli/a.ts', text]])), [], text)
  }
})

test('the length wall stands behind the last permitted line', () => {
  const lines = (count: number): Sources => new Map([['base/a.ts', 'x\n'.repeat(count)]])
  assert.deepEqual(filesTooLong(lines(lineLimit)), [])
  assert.equal(filesTooLong(lines(lineLimit + 1)).length, 1)
})
