// Functions that say they may run in the middle of anything, and break a rule each. The option
// `checkHandlers` finds them: for development, because it looks at every operation on shared words.

import { boot } from 'interprocessor'
import {
  awaits,
  computes,
  isHolding,
  setsTimer,
  sleeps,
  startHolding,
  stopHolding,
  takesLock,
  triesLock,
  watch,
} from './tasks.mjs'

const machine = await boot({
  cpus: 2,
  entry: new URL('./tasks.mjs', import.meta.url),
  checkHandlers: true,
})
await machine.smpCallFunctionSingle(1, watch)

const force = { forceAfterMs: 2 }
const call = (fn) => machine.smpCallFunctionSingle(1, fn, undefined, force)

for (const fn of [awaits, sleeps, computes]) {
  try {
    await call(fn)
  } catch (error) {
    console.log(`${fn.name}: ${error.code}`)
  }
}

await call(startHolding)
while (!(await call(isHolding)));
await call(setsTimer)
try {
  await call(takesLock)
} catch (error) {
  console.log(`${takesLock.name}: ${error.code}`)
}
console.log(`triesLock: ${await call(triesLock)}`)
await call(stopHolding)

await machine.close()
