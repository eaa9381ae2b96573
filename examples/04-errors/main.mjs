// What goes wrong on another thread arrives here: a stable code, facts as fields, both stacks.

import { boot } from 'interprocessor'
import { calculate, parse } from './tasks.mjs'

const machine = await boot({ cpus: 4, entry: new URL('./tasks.mjs', import.meta.url) })
try {
  // One CPU throws: the results of the others are here all the same.
  const failed = await failureOf(machine.smpCallFunction(parse, 'abc'))
  console.log('code:', failed.code)
  console.log('CPUs 1 and 3 gave', failed.results.get(1), 'and', failed.results.get(3))
  const remote = failed.errors.get(2)
  console.log('CPU 2 threw a', remote.name, 'in', /tasks\.mjs/.exec(remote.stack)?.[0])
  console.log('its stack goes on with:', /CPU 2 \(.*\)/.exec(remote.stack)?.[0])

  // What cannot be done is refused at once.
  const offline = await failureOf(machine.smpCallFunctionSingle(7, parse, 'abc'))
  console.log('code:', offline.code, 'for CPU', offline.cpu)
  const unknown = await failureOf(machine.smpCallFunctionSingle(1, 'nonsense'))
  console.log('code:', unknown.code, 'for', unknown.functionName)

  // Nobody waits for ever: the error names who is late, and its message says what that CPU does.
  await machine.smpCallFunctionSingle(3, calculate, 500, { wait: false })
  const late = await failureOf(machine.smpCallFunction(parse, 'abc', { timeoutMs: 100 }))
  console.log('code:', late.code, 'for the CPUs', late.cpus)
  console.log('CPU 3 is', /running "calculate"/.exec(late.message)?.[0])
} finally {
  await machine.close()
}

async function failureOf(promise) {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error('it was expected to fail')
}
