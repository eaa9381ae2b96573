// Checks the package as a stranger gets it: packs it once, lints the tarball and its types, then
// installs it into an empty folder and runs the first example there.

import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listExamples, noExample, runExample } from './example.mjs'
import { root, runNode, runNpm, setup, tool } from './run.mjs'

await setup('dist')

const folder = mkdtempSync(join(tmpdir(), 'interprocessor-'))
const problem = await check()
rmSync(folder, { recursive: true, force: true })
if (problem !== undefined) {
  console.log(`pack: ${problem}`)
  process.exitCode = 1
}

async function check() {
  const quiet = { stdio: ['ignore', 'ignore', 'inherit'] }
  const packed = await runNpm(['pack', '--loglevel=error', '--pack-destination', folder], quiet)
  if (packed.status !== 0) return 'npm pack failed.'
  const tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '')

  console.log('pack: publint')
  const publint = await runNode([tool('publint'), 'run', tarball, '--strict'])
  if (publint.status !== 0) return 'publint found something.'

  console.log('pack: are the types wrong?')
  const profile = ['--profile', 'esm-only']
  const types = await runNode([tool('@arethetypeswrong/cli', 'attw'), tarball, ...profile])
  if (types.status !== 0) return 'the types are wrong.'

  // Outside the repository, so that nothing but the tarball can answer to the package's name.
  console.log('pack: install and run an example')
  const home = join(folder, 'home')
  const [example] = listExamples()
  if (example === undefined) return noExample
  cpSync(example, home, { recursive: true })
  writeFileSync(join(home, 'package.json'), '{ "private": true, "type": "module" }\n')
  const install = ['install', '--no-audit', '--no-fund', '--loglevel=error', tarball]
  const installed = await runNpm(install, { ...quiet, cwd: home })
  if (installed.status !== 0) return 'the tarball cannot be installed.'
  const reason = await runExample(home)
  if (reason !== undefined) return `${example.slice(root.length + 1)} ${reason}`
  return undefined
}
