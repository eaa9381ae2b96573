// A thread in a loop that never looks up: see where it is, and get in by force.

import { boot } from 'interprocessor'
import { start, stop } from './tasks.mjs'

const machine = await boot({ cpus: 2, entry: new URL('./tasks.mjs', import.meta.url) })
await machine.smpCallFunctionSingle(1, start)

// Until it is in the loop: the call was answered before that.
let seen
do seen = (await machine.backtrace([1])).cpu(1)
while (!seen.stack.includes('compute'))
console.log(`CPU 1 is ${seen.activity}, in compute`)

try {
  await machine.smpCallFunctionSingle(1, stop, undefined, { timeoutMs: 50 })
} catch (error) {
  console.log(`without force: ${error.code}`)
}

const ran = await machine.smpCallFunctionSingle(1, stop, undefined, { forceAfterMs: 5 })
console.log(`with force: it had counted: ${ran}`)

await machine.close()
