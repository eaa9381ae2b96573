// The documents speak of files, functions, codes, words and tests by name. Here each of these names is
// held against what it names, so that a change which makes a document wrong fails at once.
//
// Each check is a function from files to complaints. It is asked about the real files, which must give
// none, and about files with one thing broken, because a check that finds nothing looks the same from
// outside as documents in which there is nothing to find.

import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { posix } from 'node:path'
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { IPI_ERROR_CODES } from '../src/base/errors.ts'
import {
  CPU,
  HEADER,
  LAYOUT_VERSION,
  MM,
  RECORD,
  SLOT,
  SPACE,
  TASK_SLOT,
  TLB,
} from '../src/hardware/layout.ts'

/** Texts by their path in the repository, with slashes on every system. */
type Files = ReadonlyMap<string, string>

/** This file runs as build/test/docs.test.js, two folders below the repository. */
const root = fileURLToPath(new URL('../../', import.meta.url))
const readingOrder = 'docs/reading.md'
const errorList = 'docs/errors.md'
const memoryMap = 'docs/memory-map.md'
const conformance = 'docs/conformance.md'
const book = 'docs/the-book.md'
const races = 'docs/races.md'
/** Its own examples of test names are not test names. */
const thisFile = 'test/docs.test.ts'

function readFiles(): Files {
  const below = (folder: string): string[] =>
    readdirSync(root + folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(?:md|ts)$/.test(entry.name))
      .map((entry) => posix.join(entry.parentPath.replaceAll('\\', '/'), entry.name))
      .map((path) => path.slice(root.length))
  const top = readdirSync(root).filter((name) => name.endsWith('.md'))
  const paths = [...top, ...['docs', 'src', 'test'].flatMap(below)]
  return new Map(paths.sort().map((path) => [path, readFileSync(root + path, 'utf8')]))
}

const textOf = (files: Files, path: string): string => files.get(path) ?? ''

/** The lines of a source that are no comment. */
function codeOf(text: string): string {
  const lines = text.split('\n')
  return lines.filter((line) => !/^\s*(?:\/\/|\/\*|\*)/.test(line)).join('\n')
}

/** The cells of the table rows whose first cell looks like `first`. */
function rowsOf(text: string, first: RegExp): string[][] {
  const rows = text.split('\n').filter((line) => line.startsWith('|'))
  const cells = rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
  return cells.filter(([id]) => first.test(id ?? ''))
}

function duplicates(names: readonly string[]): string[] {
  return names.filter((name, i) => names.indexOf(name) !== i)
}

/** Every source file stands in the reading order once, and nothing else does. */
function wrongInReadingOrder(files: Files): string[] {
  const items = [...textOf(files, readingOrder).matchAll(/^- \[(.*?)\]\((.*?)\)/gm)]
  const listed = items.map(([, text]) => text ?? '')
  const sources = [...files.keys()].filter((path) => path.startsWith('src/'))
  return [
    ...sources.filter((path) => !listed.includes(path)).map((path) => `${path} is not listed`),
    ...listed.filter((path) => !sources.includes(path)).map((path) => `${path} is no source`),
    ...duplicates(listed).map((path) => `${path} is listed twice`),
    ...items
      .filter(([, text, target]) => target !== `../${text}`)
      .map(([, text, target]) => `${text} leads to ${target}`),
  ]
}

/** Every error code has its section, with cause, cure and fields; every code named anywhere exists. */
function wrongErrorCodes(files: Files): string[] {
  const codes = Object.keys(IPI_ERROR_CODES)
  const sections = textOf(files, errorList).split(/^### /m).slice(1)
  const described = sections.map((section) => /^`(.*)`/.exec(section)?.[1] ?? section)
  const parts = ['Cause', 'Cure', 'Fields']
  const documents = [...files].filter(([path]) => path.endsWith('.md'))
  return [
    ...codes.filter((code) => !described.includes(code)).map((code) => `${code} has no section`),
    ...duplicates(described).map((code) => `${code} has two sections`),
    ...sections.flatMap((section, i) =>
      parts
        .filter((part) => !section.includes(`- **${part}:** `))
        .map((part) => `${described[i]} says nothing of its ${part.toLowerCase()}`),
    ),
    ...documents.flatMap(([path, text]) =>
      [...text.matchAll(/\bIPI_[A-Z_]+\b/g)]
        .filter(([code]) => !codes.includes(code))
        .map(([code]) => `${path} names ${code}, which is no code`),
    ),
  ]
}

/** Every word of the map is documented at its offset, and no other word is. */
function wrongInMemoryMap(files: Files): string[] {
  const text = textOf(files, memoryMap)
  const tables = {
    Header: HEADER,
    'Address-space record': MM,
    'Log of an address space': SPACE,
    'Flush record': RECORD,
    'Per-CPU page': CPU,
    'TLB page': TLB,
    'Request slot': SLOT,
    'Task slot': TASK_SLOT,
  }
  const version = text.includes(`Layout version ${LAYOUT_VERSION}.`) ? [] : ['the layout version']
  const wrong = Object.entries(tables).flatMap(([title, words]) => {
    const section = new RegExp(`^## ${title}\n(.*?)(?=^## |(?![^]))`, 'ms').exec(text)?.[1] ?? ''
    const documented = rowsOf(section, /^\d+$/).map(([word, name]) => `${name} at ${word}`)
    const real = Object.entries(words).map(([name, word]) => `\`${name}\` at ${word}`)
    return [
      ...real
        .filter((word) => !documented.includes(word))
        .map((word) => `${title}: ${word} is missing`),
      ...documented
        .filter((word) => !real.includes(word))
        .map((word) => `${title}: ${word} is not there`),
      ...duplicates(documented).map((word) => `${title}: ${word} stands there twice`),
    ]
  })
  return [...version, ...wrong]
}

/** The ids such as D-053 that the tests bear, by their paths. */
function idsOfTests(files: Files, id: RegExp): ReadonlyMap<string, readonly string[]> {
  const tests = [...files].filter(([path]) => path.endsWith('.test.ts') && path !== thisFile)
  return new Map(tests.map(([path, text]) => [path, codeOf(text).match(id) ?? []]))
}

/** The files that a cell names. */
function filesIn(cell: string): string[] {
  return [...cell.matchAll(/`(.*?)`/g)].map(([, path]) => path ?? '')
}

/**
 * Every id that a test bears is a row; a row that is called tested names files that bear its id; and a
 * row that is not says why.
 */
function wrongInConformance(files: Files): string[] {
  const rows = rowsOf(textOf(files, conformance), /^D-\d{3}$/)
  const ids = rows.map(([id]) => id ?? '')
  const borne = idsOfTests(files, /\bD-\d{3}\b/g)
  return [
    ...duplicates(ids).map((id) => `${id} has two rows`),
    ...[...borne].flatMap(([path, found]) =>
      found.filter((id) => !ids.includes(id)).map((id) => `${path} tests ${id}, which is no row`),
    ),
    ...rows.flatMap(([id = '', what, where = '', state = '']) => {
      const named = filesIn(where)
      const astray = named.filter((path) => borne.get(path)?.includes(id) !== true)
      const known = /^(?:tested|no test yet|(?:later|not applicable): .+)$/.test(state)
      return [
        ...(what === '' ? [`${id} says nothing`] : []),
        ...(known ? [] : [`${id} has the state "${state}"`]),
        ...((state === 'tested') === named.length > 0 ? [] : [`${id} is "${state}" by ${where}`]),
        ...astray.map((path) => `${id} names ${path}, where it is not`),
      ]
    }),
  ]
}

/** The claims of the book are all there, and the tests named beside one bear its id. */
function wrongInBook(files: Files): string[] {
  const text = textOf(files, book)
  const borne = idsOfTests(files, /\bF-\d{2}\b/g)
  const astray = rowsOf(text, /^F-/).flatMap(([id = '', , , , where = '']) =>
    filesIn(where)
      .filter((path) => borne.get(path)?.includes(id) !== true)
      .map((path) => `${id} names ${path}, where it is not`),
  )
  return [...wrongNumbers(text, 'F', 25), ...astray]
}

/** Every source that a document names exists and has in its code the names that stand beside it. */
function wrongNames(files: Files): string[] {
  const documents = [...files].filter(([path]) => /^(?:docs\/.*|README)\.?.*md$/.test(path))
  return documents.flatMap(([path, text]) =>
    [...text.matchAll(/`((?:src|test)\/[\w./-]+\.ts)`((?:[:,]\s+`#?\w+`)*)/g)].flatMap(
      ([, file = '', list = '']) => {
        const code = codeOf(textOf(files, file))
        if (!files.has(file)) return [`${path} names ${file}, which is not there`]
        const names = [...list.matchAll(/`(#?\w+)`/g)].map(([, name]) => name ?? '')
        return names
          .filter((name) => !new RegExp(`(?<![\\w#])${name}(?!\\w)`).test(code))
          .map((name) => `${path} names ${name} of ${file}, which is not in its code`)
      },
    ),
  )
}

/** The rows of a document are numbered without a gap, each once, in any order. */
function wrongNumbers(text: string, letter: string, count: number): string[] {
  const found = rowsOf(text, new RegExp(`^${letter}-\\d\\d$`)).map(([id]) => id ?? '')
  const wanted = Array.from(
    { length: count },
    (_, i) => `${letter}-${String(i + 1).padStart(2, '0')}`,
  )
  return [
    ...wanted.filter((id) => !found.includes(id)).map((id) => `${id} is missing`),
    ...found.filter((id) => !wanted.includes(id)).map((id) => `${id} is too much`),
    ...duplicates(found).map((id) => `${id} stands there twice`),
  ]
}

/** Code is not prose: brackets in it are no links, and a # begins no heading. */
const proseOf = (text: string): string =>
  text
    .replaceAll(/^```.*?^```/gms, '')
    .replaceAll(/`[^`\n]*`/g, (code) => code.replaceAll(/[[\]()]/g, '_'))

/** The anchors that a document has: what becomes of its headings in a link. */
function anchorsOf(text: string): string[] {
  const headings = proseOf(text).matchAll(/^#+ (.*)$/gm)
  return [...headings].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}

/** Every relative link of a document leads to a file, and to a heading of it if it says one. */
function brokenLinks(files: Files): string[] {
  const documents = [...files].filter(([path]) => path.endsWith('.md'))
  return documents.flatMap(([path, text]) => {
    const targets = [...proseOf(text).matchAll(/\]\(([^)\s]+)\)/g)].map(
      ([, target]) => target ?? '',
    )
    return targets
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [file = '', anchor] = target.split('#')
        const to = file === '' ? path : posix.join(posix.dirname(path), file)
        if (!files.has(to)) return anchor !== undefined || !existsSync(root + to)
        return anchor !== undefined && !anchorsOf(textOf(files, to)).includes(anchor)
      })
      .map((target) => `${path} links to ${target}, which is not there`)
  })
}

const files = readFiles()

test('docs/reading.md lists every source file exactly once, and nothing else', () => {
  assert.deepEqual(wrongInReadingOrder(files), [])
})

test('docs/errors.md describes every error code, and no document names another', () => {
  assert.deepEqual(wrongErrorCodes(files), [])
})

test('docs/memory-map.md has every word of the layout at its offset, and no other', () => {
  assert.deepEqual(wrongInMemoryMap(files), [])
})

test('docs/conformance.md has a row for every id that a test bears, and names its tests rightly', () => {
  assert.deepEqual(wrongInConformance(files), [])
})

test('docs/the-book.md and docs/races.md have every row once, and name tests rightly', () => {
  assert.deepEqual(wrongInBook(files), [])
  assert.deepEqual(wrongNumbers(textOf(files, races), 'E', 47), [])
})

test('every file that a document names exists and contains what is named beside it', () => {
  assert.deepEqual(wrongNames(files), [])
})

test('relative links in the documents resolve', () => {
  assert.deepEqual(brokenLinks(files), [])
})

test('each check finds what is wrong', () => {
  const broken: readonly [
    check: (files: Files) => string[],
    path: string,
    from: string,
    to: string,
  ][] = [
    [wrongInReadingOrder, readingOrder, '[src/index.ts](../src/index.ts)', 'src/index.ts'],
    [wrongInReadingOrder, readingOrder, '](../src/index.ts)', '](../src/worker.ts)'],
    [wrongInReadingOrder, readingOrder, '## 2.', '- [src/a.ts](../src/a.ts): a.\n\n## 2.'],
    [wrongErrorCodes, errorList, '### `IPI_TIMEOUT`', '### `IPI_NO_CPU`'],
    [wrongErrorCodes, errorList, '- **Cure:**', '- **Curse:**'],
    [wrongErrorCodes, 'README.md', '`IPI_TIMEOUT`', '`IPI_TOO_LATE`'],
    [wrongInMemoryMap, memoryMap, '`doorbell`', '`bell`'],
    [wrongInMemoryMap, memoryMap, 'Layout version ', 'Version '],
    [wrongInConformance, conformance, '| D-001 ', '| D-999 '],
    [wrongInConformance, conformance, 'test/hardware/core.test.ts', 'test/hardware/cure.test.ts'],
    [wrongInConformance, conformance, '| tested ', '| surely '],
    [wrongInConformance, 'test/architecture.test.ts', "test('", "test('D-888 "],
    [wrongInBook, book, 'test/kernel/senders.test.ts', 'test/kernel/entry.test.ts'],
    [wrongInBook, book, '| F-07 ', '| F-70 '],
    [wrongNames, book, '`sendIpiMask`', '`sendIpiMusk`'],
    [wrongNames, races, '`src/hardware/core.ts`', '`src/hardware/care.ts`'],
    [brokenLinks, 'README.md', '](docs/errors.md)', '](docs/horrors.md)'],
    [brokenLinks, 'README.md', '](docs/errors.md)', '](docs/errors.md#no-such-heading)'],
  ]
  for (const [check, path, from, to] of broken) {
    const text = textOf(files, path)
    assert.ok(text.includes(from), `${path} has nothing like ${from} to break`)
    const changed = new Map(files).set(path, text.replace(from, to))
    assert.notDeepEqual(check(changed), [], `${path}: ${from} became ${to}, and nothing complained`)
  }
  assert.notDeepEqual(wrongNumbers('| F-01 | a |\n| F-01 | b |', 'F', 2), [])
})
