// Chaos on real threads: `npm run chaos -- [--seconds N | --minutes N] [--seed N] [--cpus N]
// [--driver queue|callData]`. Threads work, and are ended, stalled, flooded and replaced at random;
// every call must settle and the books must balance.

import { join } from 'node:path'
import { fail, root, runNode, setup } from './run.mjs'

await setup('tests')
const program = join(root, 'build', 'test', 'chaos', 'main.js')
const { status } = await runNode(['--enable-source-maps', program, ...process.argv.slice(2)])
if (status !== 0) fail('chaos: not all is as it must be.')
