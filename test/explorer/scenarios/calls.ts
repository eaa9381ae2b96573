/** Calls: each runs once, and whoever waits for it hears of it. */

import type { IpiError } from '../../../src/base/errors.ts'
import type { Kernel } from '../../../src/kernel/kernel.ts'
import { VECTOR } from '../../../src/kernel/vectors.ts'
import type { Access } from '../../../src/testing.ts'
import {
  awaits,
  go,
  now,
  type ExploredMachine,
  type KernelProgram,
} from '../../support/explorer-machine.ts'
import {
  answerTo,
  bus,
  expect,
  FIRST,
  idle,
  outcome,
  type KernelCall,
  SAFE,
  scenario,
  sends,
  sharing,
  type KernelScenario,
  type Story,
} from '../scenario.ts'

/** CPU 1 leaves while CPU 0 calls it with 7, in one form or the other. */
const leaving =
  (call: (kernel: Kernel) => KernelCall) =>
  (machine: ExploredMachine): Story => {
    const calls = sharing(machine)
    let end = ''
    return {
      programs: [
        function* (kernel) {
          end = yield* outcome(() => call(kernel))
        },
        (kernel) => machine.leave(kernel),
      ],
      atEnd: () =>
        expect(
          (end === 'answer 7 done' && calls.length === 1) ||
            (end === 'IPI_CPU_OFFLINE' && calls.length === 0),
          () => `${end}, ran ${calls.length} times`,
        ),
    }
  }

const callers = (['queue', 'callData'] as const).flatMap((callDriver) => [
  scenario(
    ['E-06', 'E-07', 'E-10', 'E-12', ...(callDriver === 'callData' ? ['E-08', 'E-13'] : [])],
    `one blocks until an idle one has answered (${callDriver})`,
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      let answer: unknown
      return {
        programs: [
          function* ({ calls: family }) {
            answer = yield* go(family.singleSync(1, 'f', 7))
          },
          idle,
        ],
        atEnd: () =>
          expect(
            calls.length === 1 && answer === answerTo(7),
            () => `ran ${calls.length}, answer ${String(answer)}`,
          ),
      }
    },
    { callDriver },
  ),
  scenario(
    ['E-15'],
    `two block for each other (${callDriver})`,
    0,
    2,
    (machine) => {
      const calls = sharing(machine)
      const answers: unknown[] = []
      const calling = (target: number): KernelProgram =>
        function* ({ calls: family }) {
          answers.push(yield* go(family.singleSync(target, 'f', target)))
        }
      return {
        programs: [calling(1), calling(0)],
        atEnd: () =>
          expect(calls.length === 2 && answers.length === 2, () => `ran ${calls.join()}`),
      }
    },
    { callDriver },
  ),
  scenario(
    ['E-09', 'E-32'],
    `leaves while another asks it (${callDriver})`,
    1,
    2,
    leaving(({ calls: family }) => go(family.singleSync(1, 'f', 7))),
    { callDriver },
  ),
])

/** The same by promises: the answers come by the event loop. */
const awaiters = (['queue', 'callData'] as const).flatMap((callDriver) => [
  scenario(
    ['E-07', 'E-12'],
    `one awaits an idle one (${callDriver})`,
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      let end = ''
      return {
        programs: [
          function* ({ calls: family }) {
            end = yield* outcome(() => awaits(family.single(1, 'f', 7)))
          },
          idle,
        ],
        atEnd: () =>
          expect(
            calls.length === 1 && end === 'answer 7 done',
            () => `${end}, ran ${calls.length}`,
          ),
      }
    },
    { callDriver },
  ),
  scenario(
    ['E-15'],
    `two await each other (${callDriver})`,
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      const ends: string[] = []
      const awaiting = (target: number): KernelProgram =>
        function* ({ calls: family }) {
          ends.push(yield* outcome(() => awaits(family.single(target, 'f', target))))
        }
      return {
        programs: [awaiting(1), awaiting(0)],
        atEnd: () =>
          expect(
            calls.length === 2 && ends.length === 2,
            () => `ran ${calls.join()}: ${ends.join()}`,
          ),
      }
    },
    { callDriver },
  ),
  scenario(
    ['E-09', 'E-32'],
    `leaves while another awaits it (${callDriver})`,
    1,
    2,
    leaving(({ calls: family }) => awaits(family.single(1, 'f', 7))),
    { callDriver },
  ),
  scenario(
    ['E-10', 'E-20'],
    `gives up while the answer comes (${callDriver})`,
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      const ends: string[] = []
      return {
        programs: [
          function* ({ calls: family }) {
            for (const [info, timeoutMs] of [
              [1, 5],
              [2, Infinity],
            ] as const) {
              const call = (): KernelCall => awaits(family.single(1, 'f', info, { timeoutMs }))
              ends.push(yield* outcome(call))
            }
          },
          idle,
        ],
        atEnd: () =>
          expect(
            (ends[0] === 'answer 1 done' || ends[0] === 'IPI_TIMEOUT') &&
              ends[1] === 'answer 2 done' &&
              calls.filter((info) => info === 1).length <= 1 &&
              calls.filter((info) => info === 2).length === 1,
            () => `${ends.join()}, ran for ${calls.join()}`,
          ),
      }
    },
    { callDriver, clock: true, earlyTimeouts: 1 },
  ),
  scenario(
    ['E-20'],
    `three calls for two slots (${callDriver})`,
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      const ends: string[] = []
      return {
        programs: [
          function* ({ calls: family }) {
            const promises: Promise<unknown>[] = []
            for (const info of [1, 2, 3]) promises.push(yield* go(family.single(1, 'f', info)))
            for (const promise of promises) ends.push(yield* outcome(() => awaits(promise)))
          },
          idle,
        ],
        atEnd: () =>
          expect(
            ends.join() === 'answer 1 done,answer 2 done,answer 3 done' && calls.length === 3,
            () => `${ends.join()}, ran for ${calls.join()}`,
          ),
      }
    },
    { callDriver },
  ),
  scenario(
    ['E-22'],
    `a handler calls while its CPU calls (${callDriver})`,
    0,
    2,
    (machine) => {
      const calls = sharing(machine)
      const ends: string[] = []
      const [caller] = machine.kernels
      now(
        caller!.idt.requestIrq(
          FIRST,
          'calls',
          function* () {
            for (const wait of [true, false]) {
              const call = caller!.calls.single(1, 'f', 'from a handler', { wait })
              const promise = yield* go(call)
              promise.catch((error: unknown) => void ends.push((error as IpiError).code))
            }
          },
          SAFE,
        ),
      )
      return {
        programs: [
          function* ({ calls: family }) {
            ends.push(yield* outcome(() => go(family.singleSync(1, 'f', 7))))
          },
          sends(0, FIRST),
        ],
        atEnd: () =>
          expect(
            ends.toSorted().join() === 'IPI_WOULD_DEADLOCK,IPI_WOULD_DEADLOCK,answer 7 done' &&
              calls.join() === '7',
            () => `${ends.join()}, ran for ${calls.join()}`,
          ),
      }
    },
    { callDriver, interruptible: [0] },
  ),
])

export const CALLS: readonly KernelScenario[] = [
  ...callers,
  ...awaiters,

  scenario(['E-23'], 'runs its own part of a call, and is called', 1, 2, (machine) => {
    let runs = 0
    let active = 0
    let deepest = 0
    for (const { cpu, functions } of machine.kernels) {
      // With a safepoint in it and something before that, as a longer function would have.
      const f = function* (): Generator<Access, void, number> {
        if (cpu.id !== 0) return
        runs++
        deepest = Math.max(deepest, ++active)
        yield bus().load(0)
        yield* go(cpu.poll())
        active--
      }
      now(functions.register('f', f))
    }
    return {
      programs: [
        function* ({ calls: family }) {
          yield* go(family.eachSync('f', 0))
        },
        function* ({ calls: family }) {
          yield* go(family.singleSync(0, 'f', 0))
        },
      ],
      invariant: () => expect(deepest <= 1, () => 'it was called while it ran'),
      atEnd: () => expect(runs === 2, () => `ran ${runs} times`),
    }
  }),

  scenario(['E-07'], 'two ask one who idles', 1, 3, (machine) => {
    const calls = sharing(machine)
    const asks: KernelProgram = function* ({ calls: family, cpu }) {
      yield* go(family.singleSync(2, 'f', cpu.id, { wait: false }))
    }
    return {
      programs: [asks, asks, idle],
      atEnd: () => expect(calls.length === 2, () => `ran for ${calls.join()}`),
    }
  }),

  scenario(
    ['E-20', 'E-10'],
    'the slot of a request that nobody waits for is used again',
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      return {
        programs: [
          function* ({ calls: family }) {
            for (const info of [1, 2, 3]) {
              yield* go(family.singleSync(1, 'f', info, { wait: false }))
            }
          },
          idle,
        ],
        atEnd: () => expect(calls.join() === '1,2,3', () => `ran with ${calls.join()}`),
      }
    },
  ),

  scenario(
    ['E-13'],
    'a call interrupt that nobody asked for',
    2,
    2,
    (machine) => {
      const calls = sharing(machine)
      return {
        programs: [
          function* ({ senders, calls: family }) {
            yield* go(senders.sendIpiCpu(1, VECTOR.CALL_FUNCTION_VECTOR))
            yield* go(family.singleSync(1, 'f', 1, { wait: false }))
          },
          idle,
        ],
        atEnd: () => expect(calls.length === 1, () => `ran ${calls.length} times`),
      }
    },
    { callDriver: 'callData' },
  ),

  scenario(
    ['E-08'],
    'a stray call interrupt at a CPU that is not asked',
    1,
    3,
    (machine) => {
      const ran: number[] = []
      for (const { cpu, functions } of machine.kernels) {
        now(functions.register('f', () => void ran.push(cpu.id)))
      }
      return {
        programs: [
          function* ({ calls: family }) {
            yield* go(family.singleSync(1, 'f', 1))
          },
          idle,
          sends(2, VECTOR.CALL_FUNCTION_VECTOR),
        ],
        atEnd: () => expect(ran.join() === '1', () => `ran on CPUs ${ran.join()}`),
      }
    },
    { callDriver: 'callData' },
  ),
]
