/** Shared functions and tasks that do what they must not. */

import { isMainThread } from 'node:worker_threads'
import { attach, sharedFunction, thisMachine } from '../../src/index.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask, whoAmI } from './machine-tasks.ts'

/** Known to the test's own thread only. */
export const hereOnly = isMainThread
  ? sharedFunction('machine.hereOnly', () => board().add(WORD.counted))
  : undefined

export const asyncOne = sharedFunction('machine.async', async () => {
  board().add(WORD.counted)
  await Promise.resolve()
})

/** Rejects later: nobody will look, and no thread may end of it. */
export const returnsPromise = sharedFunction('machine.returnsPromise', () => {
  board().add(WORD.counted)
  return Promise.reject(new Error('a rejection that nobody awaits'))
})

/** Not a promise, but it pretends. Looking at it too long throws. */
export const returnsThenable = sharedFunction('machine.returnsThenable', () => ({
  // oxlint-disable-next-line unicorn/no-thenable
  then: () => {
    throw new Error('a thenable that throws')
  },
}))

export const returnsFunction = sharedFunction('machine.returnsFunction', () => {
  board().add(WORD.counted)
  return () => 'cannot be cloned'
})

/** What became of waits in places where nobody may wait. */
const codes: unknown[] = []

/** Tries all that waits; the promises' outcomes come later. */
function tryToWait(): void {
  const machine = thisMachine()
  const { id } = machine.cpu
  const target = id === 0 ? 1 : 0
  const note = (error: unknown): void => void codes.push((error as { code?: unknown }).code)
  const blocking = [
    () => machine.smpCallFunctionSingleSync(target, whoAmI),
    () => machine.smpCallFunctionSync(whoAmI),
    () => machine.onEachCpuSync(whoAmI),
    () => machine.addressSpace('machine.bad').flushTlbMmSync(),
  ]
  for (const attempt of blocking) {
    try {
      attempt()
      codes.push('waited')
    } catch (error) {
      note(error)
    }
  }
  const promises = [
    machine.smpCallFunctionSingle(target, whoAmI),
    machine.smpCallFunction(whoAmI),
    machine.smpCallFunctionMany([target], whoAmI),
    machine.addressSpace('machine.bad').flushTlbMm(),
    machine.flushTlbAll(),
    machine.stopMachine(() => undefined),
  ]
  for (const promise of promises) promise.then(() => codes.push('waited'), note)
}

/** How many waits `tryToWait` tries. */
export const WAITS = 10

/** Where nobody may wait. */
export type Place = 'handler' | 'softirq' | 'interrupts off' | 'called function'

const SOFTIRQ_NR = 12
const IRQ = 0x5f

/** Tries to wait in a place; gives the codes. */
export const waitIn = defineTask('waitIn', async (place: Place) => {
  const machine = thisMachine()
  codes.length = 0
  if (place === 'interrupts off') {
    machine.cpu.localIrqDisable()
    tryToWait()
    machine.cpu.localIrqEnable()
  } else if (place === 'called function') {
    // Somebody else's call runs it here: the call of this very CPU would run with interrupts off.
    await machine.smpCallFunctionSingle(machine.cpu.id === 0 ? 1 : 0, callBack, machine.cpu.id)
    await board().reached(WORD.done)
  } else {
    const handler = place === 'handler' ? tryToWait : () => machine.raiseSoftirq(SOFTIRQ_NR)
    machine.openSoftirq(SOFTIRQ_NR, tryToWait)
    machine.requestIrq(IRQ, place, handler)
    machine.sendIpiSelf(IRQ)
    machine.freeIrq(IRQ)
  }
  await new Promise((resolve) => setImmediate(resolve))
  return [...codes]
})

const tryHere = sharedFunction('machine.tryHere', () => {
  tryToWait()
  board().add(WORD.done)
})

/** Calls back, in a turn of its own. */
const callBack = sharedFunction('machine.callBack', (cpu: number) => {
  setImmediate(() => void thisMachine().smpCallFunctionSingle(cpu, tryHere))
})

/** Everything that only the thread of CPU 0 may do. Gives the codes. */
export const actAsBootCpu = defineTask('actAsBootCpu', async () => {
  const machine = thisMachine()
  const attempts = [
    machine.cpuUp(),
    machine.cpuDown(2),
    machine.bringUp({}),
    machine.cpuhpSetupState('x', {}),
    machine.cpuhpRemoveState('x'),
    machine.close(),
  ]
  const outcomes = await Promise.allSettled(attempts)
  return outcomes.map(
    (outcome) => outcome.status === 'rejected' && (outcome.reason as { code?: unknown }).code,
  )
})

/** Attaches once more. */
export const attachAgain = defineTask('attachAgain', async () => {
  await attach()
})
