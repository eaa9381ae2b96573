/**
 * What every CPU of a benchmark's machine imports: the handlers that answer interrupts, and the bare
 * counterparts that run on the same thread.
 */

import { isMainThread, parentPort, type MessagePort } from 'node:worker_threads'
import { CpuMask, sharedFunction, thisMachine, type TaskGuard } from '../../src/index.ts'
import { answerPings, ping, TRIPS } from '../support/ping-pong.ts'
import { pinThread } from '../support/pin.ts'
import { clockNs, Scratch, WORD } from '../support/scratch.ts'
import './cache.ts'

/** Tasks in one sample. */
const TASKS = 100

let scratch: Scratch
let turning = false

/** Gives this thread the scratch memory. */
export const useScratch = sharedFunction('bench.useScratch', (buffer: SharedArrayBuffer) => {
  scratch = new Scratch(buffer)
})

/** Keeps this thread on one processor, if that was asked for. */
export const pin = sharedFunction('bench.pin', (index: number) => pinThread(index))

/** The shortest function there is, and one that takes and gives a number. */
export const nothing = sharedFunction('bench.nothing', () => undefined)
export const increment = sharedFunction('bench.increment', (value: number) => value + 1)

/** Bare: answers so many pings. Runs in a call that nobody waits for. */
export const answer = sharedFunction('bench.answer', (trips: number) => answerPings(scratch, trips))

/** Answers each interrupt with one of its own. */
export const echoIrq = sharedFunction(
  'bench.echoIrq',
  ({ there, back, to }: { there: number; back: number; to: number }) => {
    const machine = thisMachine()
    const mask = CpuMask.of(to)
    machine.requestIrq(there, 'bench.echo', () => machine.sendIpiMask(mask, back))
  },
)

/** Stamps the arrival of each interrupt. */
export const stampIrq = sharedFunction('bench.stampIrq', (vector: number) => {
  thisMachine().requestIrq(vector, 'bench.stamp', () => scratch.stamp())
})

/** Bare: pings another CPU from this one, and leaves the times in the scratch memory. */
export const pingFromHere = sharedFunction('bench.pingFromHere', (samples: number) => {
  scratch.times.set(ping(scratch, samples))
  finish()
})

/** Sends the next interrupt of a rally; set by `rallyIrq`. */
let serve: (samples: number) => void

/** Prepares a rally: this CPU serves, the other echoes, all of it in handlers. */
export const rallyIrq = sharedFunction(
  'bench.rallyIrq',
  ({ there, back, to }: { there: number; back: number; to: number }) => {
    const machine = thisMachine()
    const mask = CpuMask.of(to)
    let samples = 0
    let taken = 0
    let trips = 0
    let start = 0
    machine.requestIrq(back, 'bench.rally', () => {
      if (++trips === TRIPS) {
        const now = performance.now()
        scratch.times[taken++] = ((now - start) * 1e6) / TRIPS
        start = now
        trips = 0
        if (taken === samples) return finish()
      }
      machine.sendIpiMask(mask, there)
    })
    serve = (count) => {
      samples = count
      taken = 0
      trips = 0
      start = performance.now()
      machine.sendIpiMask(mask, there)
    }
  },
)

/** Serves a rally of so many samples. */
export const rally = sharedFunction('bench.rally', (samples: number) => serve(samples))

function finish(): void {
  Atomics.store(scratch.words, WORD.done, 1)
  Atomics.notify(scratch.words, WORD.done)
}

/** Bare: stamps each ring of an `Atomics.waitAsync`, armed anew each time. */
export const stampBell = sharedFunction('bench.stampBell', () => {
  const { words } = scratch
  let seen = Atomics.load(words, WORD.bell)
  const onRing = (): void => {
    seen = Atomics.load(words, WORD.bell)
    scratch.stamp()
    arm()
  }
  const arm = (): void => {
    const armed = Atomics.waitAsync(words, WORD.bell, seen)
    if (armed.async) void armed.value.then(onRing)
    else onRing()
  }
  arm()
})

/** Stamps the arrival of each NMI, and bare of each message that evaluates `benchStamp()`. */
export const stampNmi = sharedFunction('bench.stampNmi', () => {
  thisMachine().registerNmiHandler('bench.stamp', () => scratch.stamp())
  Reflect.set(globalThis, 'benchStamp', () => scratch.stamp())
})

/** A loop that does not look up, with a call in each turn so that V8 does. */
export const loopUntilDone = sharedFunction('bench.loopUntilDone', () => {
  const { words } = scratch
  while (Atomics.load(words, WORD.done) === 0);
})

/** Times arithmetic that nothing interrupts, and leaves the times in the scratch memory. */
export const hotLoops = sharedFunction('bench.hotLoops', (samples: number) => {
  for (let sample = 0; sample < samples; sample++) {
    const start = performance.now()
    let x = sample
    for (let i = 0; i < 1_000_000; i++) x = (Math.imul(x, 1664525) + 1013904223) | 0
    // The result is used, so the loop stays.
    scratch.times[sample] = (performance.now() - start) * 1e6 + (x === 0 ? 1 : 0)
  }
})

let guard: TaskGuard | undefined

/** Opens the executor of this CPU; `done` says when it is. */
export const openExecutor = sharedFunction('bench.openExecutor', () => {
  void thisMachine()
    .guardTasks()
    .then((opened) => {
      guard = opened
      finish()
    })
})

/** Runs a task that does not end. */
export const runAway = sharedFunction('bench.runAway', (task: number) => {
  let isOver = false
  const loop = (): void => {
    if (isOver) return
    guard!.enter(task)
    scratch.stamp()
    for (;;);
  }
  setImmediate(() => guard!.run(loop, () => (isOver = true)))
})

/** Times tasks that do nothing, each in a guard of its own or all in one. */
export const timeGuards = sharedFunction(
  'bench.timeGuards',
  ({ count, inGuard }: { count: number; inGuard: boolean }) => {
    const task = (): void => {
      guard!.enter(1)
      guard!.leave()
    }
    const never = (): void => undefined
    const time = (run: () => void): void => {
      for (let sample = 0; sample < count; sample++) {
        const start = clockNs()
        for (let i = 0; i < TASKS; i++) run()
        scratch.times[sample] = (clockNs() - start) / TASKS
      }
    }
    if (inGuard) time(() => guard!.run(task, never))
    else guard!.run(() => time(task), never)
  },
)

/** Turns this thread's event loop for as long as told to. */
export const turnLoop = sharedFunction('bench.turnLoop', (on: boolean) => {
  const turn = (): void => {
    if (turning) setImmediate(turn)
  }
  if (on && !turning) setImmediate(turn)
  turning = on
})

/** What the other end of this thread's message port may ask. */
export type Posted = { readonly stamp: true } | { readonly id: number; readonly value: number }

/** Bare: answers messages, by port and by channel; opened by `support/ports.ts`. */
function answerMessages(port: MessagePort): void {
  port.on('message', (message: Posted) => {
    if ('stamp' in message) scratch.stamp()
    else port.postMessage({ id: message.id, value: message.value + 1 })
  })
  new BroadcastChannel('bench').addEventListener('message', () => port.postMessage({ id: -1 }))
  port.postMessage({ id: -1 })
}

if (!isMainThread) {
  parentPort!.on('message', ({ port }: { port?: MessagePort }) => {
    if (port !== undefined) answerMessages(port)
  })
}
