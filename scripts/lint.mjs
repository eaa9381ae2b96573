// Everything that judges the sources without running them. All of it runs even when something
// fails, so that one run tells the whole story.

import { fail, runNode, setup, tool } from './run.mjs'

// Tests and examples may import the package by its name, which is found in dist.
await setup('dist')

const steps = [
  ['types', tool('typescript', 'tsc'), '-p', 'tsconfig.json'],
  ['types of the portable rooms', tool('typescript', 'tsc'), '-p', 'tsconfig.portable.json'],
  ['rules', tool('oxlint'), '--type-aware', '--deny-warnings'],
  ['format', tool('prettier'), '--check', '--log-level=warn', '.'],
  ['dead code', tool('knip')],
]

const failed = []
for (const [name, ...command] of steps) {
  console.log(`lint: ${name}`)
  const { status } = await runNode(command)
  if (status !== 0) failed.push(name)
}
if (failed.length > 0) fail(`lint: failed: ${failed.join(', ')}.`)
