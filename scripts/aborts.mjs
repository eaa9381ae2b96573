// Aborts in a row on real threads: `npm run aborts -- [--count N] [--seed N]`. Every task must end once,
// every call must settle, and nothing of an aborted task may be left on its thread.

import { join } from 'node:path'
import { fail, root, runNode, setup } from './run.mjs'

await setup('tests')
const program = join(root, 'build', 'test', 'aborts', 'main.js')
const { status } = await runNode(['--enable-source-maps', program, ...process.argv.slice(2)])
if (status !== 0) fail('aborts: not all is as it must be.')
