// Change something that cannot be changed in one step, while every other thread stands still.

import { boot } from 'interprocessor'
import { stopWatching, takeDifferences, watch } from './tasks.mjs'

const machine = await boot({ cpus: 3, entry: new URL('./tasks.mjs', import.meta.url) })
try {
  const pair = new Int32Array(new SharedArrayBuffer(8))
  await machine.smpCallFunction(watch, pair)

  /** Both halves, with a long moment between them. */
  const change = (value) => {
    Atomics.store(pair, 0, value)
    const end = performance.now() + 100
    while (performance.now() < end);
    Atomics.store(pair, 1, value)
  }
  const report = async (how) => {
    const seen = await machine.smpCallFunction(takeDifferences)
    const total = [...seen.values()].reduce((sum, count) => sum + count, 0)
    console.log(how, total === 0 ? 'nobody saw it half done' : 'it was seen half done')
  }

  change(1)
  await report('in the open:')

  // Every other CPU stands still with interrupts off while the function runs here.
  await machine.stopMachine(change, 2)
  await report('with the machine stopped:')

  await machine.smpCallFunction(stopWatching)
} finally {
  await machine.close()
}
