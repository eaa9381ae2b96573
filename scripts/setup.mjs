// Makes a clone ready: `node scripts/setup.mjs [dist] [tests] [--force]`.
// Dependencies come first, then the builds that are asked for. What is up to date is left alone
// and not mentioned, so every other command can begin with this one.

import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fail, root, runNode, runNpm, say, tool } from './run.mjs'

const builds = {
  dist: {
    config: 'tsconfig.build.json',
    folders: ['src'],
    from: 'src',
    to: 'dist',
    types: true,
    // What every thread needs is one file behind all but the last: a thread that starts reads sixty
    // modules in 70 ms, and one in 25. The last shares nothing with them, so that it costs them
    // nothing. The rooms are only their insides.
    bundles: [
      ['index', 'worker', 'thread', 'piscina', 'piscina-thread', 'bentocache', 'lru-cache'],
      ['testing'],
    ],
    // What is read before a part that is loaded later, by its room, and with an entry.
    before: {
      kernel: 'worker',
      platform: 'worker',
      services: 'index',
      'bentocache.ts': 'index',
      'lru-cache.ts': 'index',
    },
    rooms: ['base', 'hardware', 'kernel', 'services', 'platform', 'testing'],
  },
  tests: {
    config: 'tsconfig.test.json',
    folders: ['src', 'test', 'bench'],
    from: '',
    to: 'build',
    types: false,
    // The explorer runs copies of the code that yield at each access to shared memory; one of them
    // yields at every method as well, where a forced entry may come.
    instrumented: { explored: { boundaries: false }, interrupted: { boundaries: true } },
  },
}

const args = process.argv.slice(2)
const force = args.includes('--force')
const targets = args.filter((arg) => arg !== '--force')
for (const target of targets) {
  if (!Object.hasOwn(builds, target)) {
    fail(`setup: "${target}" is not a build; there is ${Object.keys(builds).join(' and ')}.`)
  }
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 20)) {
  fail(`setup: Node 20.20 or newer is needed, and this is ${process.versions.node}.`)
}

await installDependencies()
for (const target of Object.keys(builds)) {
  if (targets.includes(target)) await build(target)
}

async function installDependencies() {
  if (isInstalled()) return
  say('setup: installing dependencies')
  const { status } = await runNpm(['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (status !== 0) fail('setup: npm ci failed.')
}

/**
 * Whether node_modules is what package-lock.json asks for. npm ends every installation with a record
 * of it there. The two are compared by what they say and not by their age: a checkout makes files
 * young, and `npm install` may write either of them last.
 */
function isInstalled() {
  const record = readText(join(root, 'node_modules', '.package-lock.json'))
  if (record === undefined) return false
  const installed = JSON.parse(record).packages
  const { '': _ours, ...locked } = JSON.parse(readText(join(root, 'package-lock.json'))).packages
  const isThere = ([path, { version, optional }]) =>
    // What is made for other systems is locked and never installed.
    path in installed ? installed[path].version === version : optional === true
  return (
    Object.entries(locked).every(isThere) && Object.keys(installed).every((path) => path in locked)
  )
}

async function build(target) {
  const {
    config,
    folders,
    from,
    to,
    types,
    bundles = [],
    before = {},
    rooms = [],
    instrumented = {},
  } = builds[target]
  const sources = folders.flatMap((folder) => listTypeScript(folder)).sort()
  if (sources.length === 0) fail(`setup: there is nothing in ${folders.join(', ')} to build.`)

  // Equality with what the last build saw, not "newer than": this also notices a deleted file, and
  // an older one that a checkout has brought back.
  const copies = Object.entries(instrumented)
  const scripts = copies.length === 0 ? [] : ['scripts/instrument.mjs']
  const inputs = [...sources, ...scripts, 'tsconfig.json', config, 'package-lock.json']
  const fingerprint = createHash('sha256').update(inputs.map(describe).join('\n')).digest('hex')
  const stamp = join(root, '.cache', 'builds', `${target}.json`)
  const last = JSON.parse(readText(stamp) ?? '{"outputs":[]}')
  const complete = last.outputs.every((output) => existsSync(join(root, output)))
  if (!force && complete && last.fingerprint === fingerprint) return

  say(`setup: building ${to}`)
  const { status } = await runNode([tool('typescript', 'tsc'), '-p', config])
  if (status !== 0) fail(`setup: ${to} does not compile.`)
  let outputs = sources.flatMap((source) => outputsOf(source, from, to, types))
  for (const entries of bundles) outputs.push(...(await bundle(entries, before, from, to)))
  outputs = removeInsides([...new Set(outputs)], rooms, to)
  for (const [copy, how] of copies) {
    // Here and not above: what it needs is not there when this script begins.
    const { instrument } = await import('./instrument.mjs')
    instrument(copy, how)
    outputs.push(`${to}/${copy}/kernel/kernel.js`)
  }

  // A test whose source is gone must not run again, and only what a build made is ever removed.
  for (const output of last.outputs) {
    if (!outputs.includes(output)) rmSync(join(root, output), { force: true })
  }
  const command = join(root, 'dist', 'cli', 'main.js')
  if (target === 'dist' && existsSync(command)) chmodSync(command, 0o755)
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, JSON.stringify({ fingerprint, outputs }))
}

/** Makes few files of many; gives them. Names and lines stay readable in a stack. */
async function bundle(entries, before, from, to) {
  // Here and not above: on a fresh clone it is not there when this script begins.
  const { build: esbuild } = await import('esbuild')
  const { metafile } = await esbuild({
    absWorkingDir: root,
    entryPoints: entries.map((entry) => `${from}/${entry}.ts`),
    outdir: to,
    bundle: true,
    splitting: true,
    chunkNames: '[name]-[hash]',
    plugins: [keepTogether(before, join(root, from))],
    // Else an import for nothing but its effect is dropped: package.json says that there are none.
    ignoreAnnotations: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    minifyWhitespace: true,
    minifySyntax: true,
    lineLimit: 100,
    legalComments: 'none',
    sourcemap: true,
    sourcesContent: false,
    metafile: true,
    logLevel: 'warning',
  }).catch(() => fail(`setup: ${to} cannot be bundled.`))
  const outputs = Object.keys(metafile.outputs)
  for (const output of outputs.filter((name) => name.endsWith('.js'))) dropBareImports(output)
  return outputs
}

/**
 * A file imports a part without taking anything from it where the part was once more than it is. The package
 * has no side effects, so bundlers warn of that. As long as before, for the maps.
 */
function dropBareImports(output) {
  const file = join(root, output)
  const text = readFileSync(file, 'utf8')
  const dropped = text.replace(/import"\.\/shared-\w+\.js";/g, (found) => ' '.repeat(found.length))
  if (dropped !== text) writeFileSync(file, dropped)
}

/**
 * Keeps together what is read at once. esbuild cuts by who needs a module, so each part that is loaded
 * later would cut out what it has in common with what was there before, and every thread would read
 * all the pieces. So such a part, whatever it needs, needs all of that.
 */
function keepTogether(before, folder) {
  return {
    name: 'keep-together',
    setup({ onResolve, onLoad }) {
      const beginnings = new Set()
      onResolve({ filter: /./ }, ({ kind, path, resolveDir }) => {
        const begins = kind === 'dynamic-import' || kind === 'entry-point'
        if (begins) beginnings.add(join(resolveDir, path))
        return undefined
      })
      onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const [place] = relative(folder, path).split(sep)
        const entry = before[place]
        if (entry === undefined || !beginnings.has(path)) return undefined
        const read = JSON.stringify(join(folder, `${entry}.ts`))
        return { contents: `${readFileSync(path, 'utf8')}\nimport ${read}\n`, loader: 'ts' }
      })
    },
  }
}

/** Removes the modules that are inside a bundle now; gives what is left. Declarations stay. */
function removeInsides(outputs, rooms, to) {
  const isInside = (output) =>
    rooms.some((room) => output.startsWith(`${to}/${room}/`)) && /\.js(\.map)?$/.test(output)
  for (const output of outputs.filter(isInside)) rmSync(join(root, output), { force: true })
  return outputs.filter((output) => !isInside(output))
}

/** The TypeScript files below a folder, with slashes on every system. */
function listTypeScript(folder) {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true })
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter((name) => name.endsWith('.ts'))
}

function outputsOf(source, from, to, types) {
  if (source.endsWith('.d.ts')) return []
  const stem = `${to}/${source.slice(from === '' ? 0 : from.length + 1, -'.ts'.length)}`
  const endings = types ? ['.js', '.js.map', '.d.ts', '.d.ts.map'] : ['.js', '.js.map']
  return endings.map((ending) => stem + ending)
}

function describe(file) {
  const { size, mtimeMs } = statSync(join(root, file))
  return `${file} ${size} ${mtimeMs}`
}

function readText(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined
}
