// Run a function on other threads, and know that it ran: the call gives what each of them returned.

import { boot } from 'interprocessor'
import { countWords, hello } from './tasks.mjs'

// This thread becomes CPU 0. Three worker threads import tasks.mjs and become CPUs 1 to 3.
const machine = await boot({ cpus: 4, entry: new URL('./tasks.mjs', import.meta.url) })
try {
  // On all others: a Map from CPU to result.
  for (const text of (await machine.smpCallFunction(hello, 'world')).values()) console.log(text)

  // On every CPU, this one too.
  const counts = await machine.onEachCpu(countWords, 'one two three')
  console.log('words counted by each CPU:', [...counts.values()].join(' '))

  // On one CPU; on some.
  console.log('CPU 2 counts', await machine.smpCallFunctionSingle(2, countWords, 'just two'))
  const some = await machine.smpCallFunctionMany([1, 3], hello, 'you two')
  console.log('asked only CPUs', [...some.keys()].join(' and '))

  // Blocking, without a promise: this thread takes interrupts of its own while it waits.
  console.log('CPU 1 counts', machine.smpCallFunctionSingleSync(1, countWords, 'a b c d'))
} finally {
  await machine.close()
}
