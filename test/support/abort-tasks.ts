/**
 * What every thread of a test of aborts imports: an executor as a pool has one, and tasks that do not end
 * until they are aborted.
 */

import { AsyncLocalStorage, AsyncResource, executionAsyncId } from 'node:async_hooks'
import { createHash } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { Session } from 'node:inspector'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import vm from 'node:vm'
import { sharedFunction, thisMachine, type AbortedTask, type TaskGuard } from '../../src/index.ts'
import { compute, numbers } from './endless.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask } from './machine-tasks.ts'

/** What the types of Node do not name. */
const { Instance, Module } = Reflect.get(globalThis, 'WebAssembly') as {
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object) => { readonly exports: Record<string, unknown> }
}

const storage = new AsyncLocalStorage<string>()
const THIS_FILE = fileURLToPath(import.meta.url)

/** A module whose one function turns for ever: (func (export "f") (loop (br 0))). */
const LOOP_WASM = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 0x66, 0, 0, 10, 9,
  1, 7, 0, 3, 0x40, 12, 0, 11, 11,
])

/** Tasks that do not end: the table of the reference. */
export const ENDLESS = {
  spin: () => {
    for (;;);
  },
  'an optimised loop': () => {
    for (;;) compute(10_000)
  },
  'Map and JSON': () => {
    const map = new Map<number, unknown>()
    for (let i = 0; ; i++) map.set(i % 100, JSON.parse(JSON.stringify({ i, list: [i, [i]] })))
  },
  'a generator': () => {
    for (const i of numbers()) if (i < 0) return
  },
  'Atomics.wait': () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  },
  WebAssembly: () => {
    const { exports } = new Instance(new Module(LOOP_WASM))
    ;(exports['f'] as () => void)()
  },
  'als.run': () => {
    storage.run('the aborted one', () => {
      for (;;) compute(1000)
    })
  },
  AsyncResource: () => {
    for (;;) new AsyncResource('test').runInAsyncScope(() => compute(20_000))
  },
  EventEmitter: () => {
    const emitter = new EventEmitter()
    emitter.on('event', () => compute(50))
    for (;;) emitter.emit('event')
  },
  timers: () => {
    for (;;) {
      const timer = setTimeout(() => undefined, 5)
      compute(20_000)
      clearTimeout(timer)
    }
  },
  crypto: () => {
    for (;;) createHash('sha256').update('text').digest('hex')
  },
  fs: () => {
    for (;;) {
      statSync(THIS_FILE)
      readFileSync(THIS_FILE)
    }
  },
  RegExp: () => {
    for (;;) /^(a+)+$/.test('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab')
  },
  promises: () => {
    for (;;) {
      void Promise.resolve(1).then(() => board().add(WORD.counted))
      compute(50_000)
    }
  },
  'deep recursion': () => {
    const dive = (): number => 1 + dive()
    for (;;) {
      try {
        dive()
      } catch {
        // There was no room for one call more.
      }
    }
  },
  'throw and stack': () => {
    for (;;) {
      try {
        throw new Error('again')
      } catch (error) {
        if ((error as Error).stack === '') return
      }
    }
  },
  // Within it V8 gives no stack but as a text.
  'Error.prepareStackTrace': () => {
    const before: unknown = Reflect.get(Error, 'prepareStackTrace')
    Error.prepareStackTrace = () => {
      // The thread outlives the task.
      Reflect.set(Error, 'prepareStackTrace', before)
      for (;;);
    }
    return new Error('one').stack
  },
  'new Function': () => {
    // oxlint-disable-next-line no-new-func, typescript/no-implied-eval -- code without a file is the point
    new Function('for (;;);')()
  },
  'node:vm': () => {
    vm.runInNewContext('for (;;);')
  },
  'node:vm with a time limit': () => {
    vm.runInNewContext('for (;;);', {}, { timeout: 60_000 })
  },
  'a sort': () => {
    const list = Array.from({ length: 50 }, (_, i) => (i * 7) % 50)
    for (;;) list.sort((a, b) => (compute(20) === 0 ? 0 : a - b))
  },
  'interrupts off': () => {
    thisMachine().cpu.localIrqDisable()
    thisMachine().cpu.preemptDisable()
    board().add(READY)
    for (;;);
  },
} satisfies Record<string, () => unknown>

const large = (): number[] => Array.from({ length: 1_000_000 }, (_, i) => i)

/** A task that is in code of Node's own all the time. */
const NODE = {
  'code of Node': () => {
    const [one, other] = [large(), large()]
    board().set(READY, 1)
    for (;;) isDeepStrictEqual(one, other)
  },
} satisfies Record<string, () => unknown>

/** Tasks that come to a safepoint, or wait in the library. */
export const SOFT = {
  'cpu.poll()': () => {
    for (;;) thisMachine().cpu.poll()
  },
  'cpu.halt()': () => {
    for (;;) thisMachine().cpu.halt()
  },
  'a call that blocks': () => {
    thisMachine().smpCallFunctionSingleSync(2, 'machine.hold', {}, { timeoutMs: 60_000 })
  },
} satisfies Record<string, () => unknown>

/** Tasks that nothing aborts with their thread kept. */
export const DEADLY = {
  'a walk of an address space': () => {
    thisMachine()
      .addressSpace('abort')
      .translate(1, () => {
        for (;;);
      })
  },
  'a handler': () => {
    const machine = thisMachine()
    machine.requestIrq(0x61, 'endless', () => {
      for (;;);
    })
    machine.sendIpiSelf(0x61)
    machine.cpu.poll()
  },
  'in an inspector session of its own': () => {
    const session = new Session()
    session.connect()
    // It takes the termination for its own.
    for (;;) session.post('Runtime.evaluate', { expression: 'for (;;);' })
  },
} satisfies Record<string, () => unknown>

/** Tasks that end by themselves. */
const SHORT = {
  quick: () => compute(200),
  'a little longer': (rounds = 20_000) => compute(rounds),
  'process.exit()': () => process.exit(3),
} satisfies Record<string, (rounds?: number) => unknown>

/** Tasks by name. */
const TASKS: Readonly<Record<string, (rounds?: number) => unknown>> = {
  ...ENDLESS,
  ...NODE,
  ...SOFT,
  ...DEADLY,
  ...SHORT,
}

export type EndlessName = keyof typeof ENDLESS
export type SoftName = keyof typeof SOFT
export type DeadlyName = keyof typeof DEADLY
export type TaskName = EndlessName | keyof typeof NODE | SoftName | DeadlyName | keyof typeof SHORT

/** What to run: a number and a task; of `a little longer`, how long, in rounds of arithmetic. */
export interface Order {
  readonly task: number
  readonly name: TaskName
  readonly rounds?: number
}

/** How the executor saw tasks end. */
export const executor: {
  guard: TaskGuard | undefined
  readonly aborted: AbortedTask[]
  readonly left: { task: number; wasAsked: boolean; error: string | undefined }[]
} = { guard: undefined, aborted: [], left: [] }

/** Words of the board. */
export const STARTED = WORD.free
export const ENDED = WORD.free + 1
export const READY = WORD.free + 2

/** Opens the executor of a CPU: to be done once in the life of a thread. */
export const openExecutor = defineTask('abort.openExecutor', async () => {
  executor.guard = await thisMachine().guardTasks()
})

/** Runs tasks one after the other in one guard, as a pool does that finds them in its queue. */
function runAll(orders: readonly Order[]): void {
  const queue = [...orders]
  const guard = executor.guard!
  guard.run(
    () => {
      for (let order = queue.shift(); order !== undefined; order = queue.shift()) {
        const { task, name, rounds } = order
        guard.enter(task)
        board().set(STARTED, task)
        let error: string | undefined
        try {
          TASKS[name]!(rounds)
        } catch (thrown) {
          error = String((thrown as { code?: unknown }).code ?? thrown)
        }
        const wasAsked = guard.leave()
        executor.left.push({ task, wasAsked, error })
        board().set(ENDED, task)
      }
    },
    (aborted) => {
      executor.aborted.push(aborted)
      board().set(ENDED, aborted.task)
    },
  )
}

/** Has tasks run from the next turn on, entered in one of the ways in which Node calls JavaScript. */
export type Entered = 'setImmediate' | 'setTimeout' | 'nextTick' | 'a microtask' | 'an async scope'
export const runTasks = sharedFunction(
  'abort.runTasks',
  ({ orders, from = 'setImmediate' }: { orders: readonly Order[]; from?: Entered }) => {
    const run = (): void => runAll(orders)
    if (from === 'setImmediate') setImmediate(run)
    else if (from === 'setTimeout') setTimeout(run, 0)
    else if (from === 'nextTick') setImmediate(() => process.nextTick(run))
    else if (from === 'a microtask') setImmediate(() => queueMicrotask(run))
    else setImmediate(() => new AsyncResource('outer').runInAsyncScope(run))
  },
)

/** What is left of an aborted task on a thread that should know nothing of it. */
export const lookAround = defineTask('abort.lookAround', async () => {
  const order: string[] = []
  process.nextTick(() => order.push('tick'))
  queueMicrotask(() => order.push('microtask'))
  await new Promise((resolve) => setTimeout(resolve, 2))
  await new Promise((resolve) => setImmediate(resolve))
  const { cpu } = thisMachine()
  return {
    order: order.join(' '),
    store: storage.getStore(),
    asyncId: executionAsyncId() >= 0,
    irqsDisabled: cpu.irqsDisabled,
    inInterrupt: cpu.inInterrupt,
    preemptCount: cpu.preempt.value,
    kernelDepth: cpu.kernelDepth,
    threadFlags: cpu.threadFlags,
    aborted: executor.aborted.splice(0),
    left: executor.left.splice(0),
  }
})

/** A vector that counts on the board. */
export const COUNTED_VECTOR = 0x62
export const countVector = sharedFunction('abort.countVector', () => {
  thisMachine().requestIrq(COUNTED_VECTOR, 'counted', () => board().add(WORD.counted))
})

/** Asks for an abort from the CPU that runs this. */
export const abortFrom = defineTask(
  'abort.abortFrom',
  ({ cpu, task, timeoutMs }: { cpu: number; task: number; timeoutMs: number }) =>
    thisMachine().abortTask(cpu, task, { timeoutMs }),
)

/** The same once the task runs; gives at once. */
export const abortWhenStarted = defineTask(
  'abort.abortWhenStarted',
  ({ cpu, task, timeoutMs }: { cpu: number; task: number; timeoutMs: number }) => {
    setImmediate(() => {
      board().block(STARTED, task)
      void thisMachine().abortTask(cpu, task, { timeoutMs })
    })
  },
)

/** Has a CPU replaced from the CPU that runs this. */
export const replaceFrom = defineTask('abort.replaceFrom', (cpu: number) =>
  thisMachine().replaceCpu(cpu),
)

/**
 * Runs a task in whose middle another is run, in a guard of its own, which does not end; the outer one
 * then ends, or does not.
 */
export const runNested = sharedFunction(
  'abort.runNested',
  ({ outer, inner, endless = false }: { outer: number; inner: number; endless?: boolean }) => {
    const guard = executor.guard!
    const onAborted = (aborted: AbortedTask): void => void executor.aborted.push(aborted)
    let isDone = false
    const runInner = (): void => {
      if (isDone) return
      isDone = true
      guard.enter(inner)
      board().set(STARTED, inner)
      for (;;) compute(1000)
    }
    let rounds = 0
    const runOuter = (): void => {
      if (rounds++ > 0) return
      guard.enter(outer)
      storage.run('outer', () => guard.run(runInner, onAborted))
      while (endless) compute(1000)
      executor.left.push({ task: outer, wasAsked: guard.leave(), error: undefined })
      board().set(ENDED, outer)
    }
    setImmediate(() => guard.run(runOuter, onAborted))
  },
)

/** Enters what must not be entered; gives the codes. */
export const enterTooMuch = defineTask('abort.enterTooMuch', () => {
  const guard = executor.guard!
  const codeOf = (task: number): unknown => {
    try {
      guard.enter(task)
    } catch (error) {
      return (error as { code?: unknown }).code
    }
    return undefined
  }
  const codes: unknown[] = []
  guard.run(
    () => {
      for (let task = 1; task <= 4; task++) guard.enter(task)
      codes.push(codeOf(5), codeOf(0), codeOf(0.5))
      for (let task = 1; task <= 4; task++) guard.leave()
    },
    () => undefined,
  )
  return codes
})
