// Linux has had two ways to call a function on other CPUs, and both are here. `callData` is the one
// of the book, Linux 2.6.11: one global record under one lock, so one call at a time, each with an
// interrupt of its own. `queue` is the one of today and the default: a queue per CPU, and only who
// finds it empty interrupts. The difference shows where calls come faster than they are served.

import { boot } from 'interprocessor'
import { keepBusy, nothing } from './tasks.mjs'

const CALLS = 5
const BUSY_MS = 200

for (const callDriver of ['callData', 'queue']) {
  const entry = new URL('./tasks.mjs', import.meta.url)
  const machine = await boot({ cpus: 3, entry, callDriver })
  try {
    // `wait: false` returns when the function has started everywhere.
    await machine.smpCallFunction(keepBusy, BUSY_MS, { wait: false })
    const before = machine.interrupts()
    await Promise.all(Array.from({ length: CALLS }, () => machine.smpCallFunction(nothing)))
    const after = machine.interrupts()
    const interrupts = [1, 2].map((cpu) => after.count('CAL', cpu) - before.count('CAL', cpu))
    console.log(`${callDriver}: ${CALLS} calls, interrupts on CPUs 1 and 2:`, interrupts.join(', '))
  } finally {
    // The thread is free for the next machine then.
    await machine.close()
  }
}
