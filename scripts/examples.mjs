// Runs every example against the built package: the name `interprocessor` leads to dist, because the
// examples lie inside the package of that name.

import { listExamples, noExample, runExample } from './example.mjs'
import { fail, root, setup } from './run.mjs'

await setup('dist')
const folders = listExamples()
if (folders.length === 0) fail(`examples: ${noExample}`)

let failures = 0
for (const folder of folders) {
  const name = folder.slice(root.length + 1)
  const reason = await runExample(folder)
  console.log(reason === undefined ? `ok    ${name}` : `FAIL  ${name} ${reason}`)
  if (reason !== undefined) failures++
}
process.exitCode = failures === 0 ? 0 : 1
