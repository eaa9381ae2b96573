/** Entry modules that fail, each in a way of its own: the query of the URL says which. */

import { sharedFunction } from '../../src/index.ts'

switch (new URL(import.meta.url).search) {
  case '?throws':
    throw new RangeError('this entry always throws')
  case '?exits':
    process.exit(3)
    break
  case '?duplicate':
    sharedFunction('machine.twice', () => 1)
    sharedFunction('machine.twice', () => 2)
    break
  case '?blocks':
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000)
    break
  default:
    await import('./machine-tasks.ts')
}
