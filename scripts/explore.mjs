// Explores the real code: `npm run explore -- [--seconds N] [--forced] [--mutants] [words of names …]`.
// Without a time each scenario ends with its bounds. Forced: one interrupt may be forced into any CPU,
// at each access and each method. Mutants are copies of the code with one fault each; every one must be
// found by the scenarios that it names.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fail, root, setup } from './run.mjs'

await setup('tests')
const { status } = spawnSync(
  process.execPath,
  [join(root, 'build', 'test', 'explorer', 'main.js'), ...process.argv.slice(2)],
  { stdio: 'inherit' },
)
if (status !== 0) fail('explore: not all is as it must be.')
