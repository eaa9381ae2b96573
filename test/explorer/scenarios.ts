/**
 * The races of docs/races.md as scenarios: the real kernels of two or three CPUs do what the row tells,
 * and what must hold is looked at. Waits never end by themselves, so that a wake-up which would only
 * be late counts as lost.
 */

import type { MachineOptions } from '../../src/kernel/config.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { TIF } from '../../src/kernel/thread-flags.ts'
import type { IpiError } from '../../src/base/errors.ts'
import { CpuMask } from '../../src/base/cpu-mask.ts'
import { CPU_STATE, HEADER } from '../../src/hardware/layout.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import { Bus, type Access, type Scenario } from '../../src/testing.ts'
import { $peek } from '../support/explorer-runtime.ts'
import {
  BlankMemory,
  ExploredMachine,
  go,
  now,
  type KernelProgram,
  type Rooms,
} from '../support/explorer-machine.ts'

/** A scenario of the real code, for whichever copy of it. */
export interface KernelScenario {
  /** Rows of docs/races.md. */
  readonly ids: readonly string[]
  readonly name: string
  /** Preemptions that `npm test` allows: as many as take seconds. */
  readonly preemptions: number
  readonly on: (rooms: Rooms) => Scenario
}

/** What a scenario does, once the machine stands. */
interface Story {
  readonly programs: readonly KernelProgram[]
  readonly invariant?: () => string | undefined
  readonly atEnd?: () => string | undefined
  readonly onDeath?: (cpu: number) => void
}

/** What may happen to whom: see `Scenario` and `MachineShape`. */
interface Fates {
  readonly mortal?: readonly number[]
  readonly interruptible?: readonly number[]
  readonly interruptsMax?: number
  readonly earlyTimeouts?: number
  readonly down?: readonly number[]
  readonly clock?: boolean
}

function scenario(
  ids: readonly string[],
  name: string,
  preemptions: number,
  cpus: number,
  tell: (machine: ExploredMachine) => Story,
  fates: MachineOptions & Fates = {},
): KernelScenario {
  const { mortal, interruptible, interruptsMax, earlyTimeouts, ...more } = fates
  const { down = [], clock = false, ...options } = more
  return {
    ids,
    name,
    preemptions,
    on: (rooms) => {
      let machine: ExploredMachine | undefined
      const blank = new BlankMemory(rooms, cpus, options)
      return {
        name: `${ids.join(', ')} ${name}`,
        timeouts: clock,
        mortal: mortal ?? [],
        interruptible: interruptible ?? [],
        interruptsMax: interruptsMax ?? 1,
        earlyTimeouts: earlyTimeouts ?? 0,
        nameOf: (at) => machine!.nameOf(at),
        setup: (_memory, watch) => {
          machine = new ExploredMachine(rooms, blank, watch, { cpus, options, down, clock })
          const { programs, ...rest } = tell(machine)
          return machine.setup(programs, rest)
        },
      }
    },
  }
}

/** For accesses that are none of the kernel's. Each stands until its turn comes: one for each. */
const bus = (): Bus => new Bus()

const FIRST = 0x60
const SECOND = 0xa5
/** A word of a CPU's page that nobody uses. */
const WORK = 600

/** Counts what a CPU takes of each vector. */
function counting({ idt }: Kernel, ...vectors: number[]): Map<number, number> {
  const counts = new Map(vectors.map((vector) => [vector, 0]))
  for (const vector of vectors) {
    now(idt.requestIrq(vector, 'counted', () => void counts.set(vector, counts.get(vector)! + 1)))
  }
  return counts
}

const expect = (holds: boolean, otherwise: () => string): string | undefined =>
  holds ? undefined : otherwise()

/** Does nothing but idle. */
const idle: KernelProgram = function* () {}

const sends =
  (target: number, vector: number): KernelProgram =>
  (kernel) =>
    go(kernel.senders.sendIpiCpu(target, vector))

/** Shares a function with all CPUs; gives what it was called with, in order. */
function sharing(machine: ExploredMachine): unknown[] {
  const calls: unknown[] = []
  for (const { functions } of machine.kernels) {
    functions.register('f', (info: unknown) => {
      calls.push(info)
      return info
    })
  }
  return calls
}

const halts = (until: () => boolean): KernelProgram =>
  function* ({ cpu }) {
    while (!until()) yield* go(cpu.halt())
  }

const callers = (['queue', 'callData'] as const).flatMap((callDriver) => [
  scenario(
    ['E-07', 'E-10', 'E-12', ...(callDriver === 'callData' ? ['E-08', 'E-13'] : [])],
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
            calls.length === 1 && answer === 7,
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
    (machine) => {
      const calls = sharing(machine)
      let end = ''
      return {
        programs: [
          function* ({ calls: family }) {
            try {
              end = `answer ${String(yield* go(family.singleSync(1, 'f', 7)))}`
            } catch (error) {
              end = (error as IpiError).code
            }
          },
          (kernel) => machine.leave(kernel),
        ],
        atEnd: () =>
          expect(
            (end === 'answer 7' && calls.length === 1) ||
              (end === 'IPI_CPU_OFFLINE' && calls.length === 0),
            () => `${end}, ran ${calls.length} times`,
          ),
      }
    },
    { callDriver },
  ),
])

/** All scenarios. */
export const SCENARIOS: readonly KernelScenario[] = [
  scenario(['E-01'], 'halts while an interrupt comes', Infinity, 2, ({ kernels }) => {
    const counts = counting(kernels[1]!, FIRST)
    return {
      programs: [sends(1, FIRST), halts(() => counts.get(FIRST) === 1)],
      atEnd: () => expect(counts.get(FIRST) === 1, () => `taken ${counts.get(FIRST)}`),
    }
  }),

  scenario(['E-01'], 'parks while an interrupt comes', Infinity, 2, ({ kernels }) => {
    const counts = counting(kernels[1]!, FIRST)
    return {
      programs: [sends(1, FIRST), idle],
      atEnd: () => expect(counts.get(FIRST) === 1, () => `taken ${counts.get(FIRST)}`),
    }
  }),

  scenario(['E-02'], 'two post to one who halts, two vectors', 2, 3, ({ kernels }) => {
    const counts = counting(kernels[2]!, FIRST, SECOND)
    const all = (): boolean => counts.get(FIRST) === 1 && counts.get(SECOND) === 1
    return {
      programs: [sends(2, FIRST), sends(2, SECOND), halts(all)],
      atEnd: () => expect(all(), () => `taken ${[...counts.values()].join()}`),
    }
  }),

  scenario(['E-02'], 'two post to one who parks, two vectors', 2, 3, ({ kernels }) => {
    const counts = counting(kernels[2]!, FIRST, SECOND)
    return {
      programs: [sends(2, FIRST), sends(2, SECOND), idle],
      atEnd: () =>
        expect(
          counts.get(FIRST) === 1 && counts.get(SECOND) === 1,
          () => `taken ${[...counts.values()].join()}`,
        ),
    }
  }),

  scenario(['E-03', 'E-36'], 'lowers its priority while a request arrives', 3, 2, ({ kernels }) => {
    const counts = counting(kernels[1]!, FIRST)
    return {
      programs: [
        sends(1, FIRST),
        function* ({ cpu }) {
          cpu.apic.taskPriority = 15
          yield* go(cpu.core.deliverInterrupts('safepoint'))
          cpu.apic.taskPriority = 0
          while (counts.get(FIRST) === 0) yield* go(cpu.halt())
        },
      ],
      atEnd: () => expect(counts.get(FIRST) === 1, () => `taken ${counts.get(FIRST)}`),
    }
  }),

  scenario(['E-06'], 'a handler reads what was written before the send', 3, 2, (machine) => {
    const [sender, target] = machine.kernels
    const { words } = machine
    const at = sender!.cpu.page + WORK
    const read: number[] = []
    now(target!.idt.requestIrq(FIRST, 'reads', () => void read.push($peek(words, at))))
    return {
      programs: [
        function* ({ senders }) {
          words[at] = 42
          yield* go(senders.sendIpiCpu(1, FIRST))
        },
        halts(() => read.length === 1),
      ],
      atEnd: () => expect(read[0] === 42, () => `the handler has read ${read.join()}`),
    }
  }),

  scenario(['E-05'], 'is marked for rescheduling again while it reschedules', 2, 2, (machine) => {
    const { words } = machine
    const [, target] = machine.kernels
    const at = target!.cpu.page + WORK
    const seen: number[] = []
    target!.rescheduler.onSchedule = () => void seen.push($peek(words, at))
    return {
      programs: [
        function* ({ rescheduler }) {
          for (const work of [1, 2]) {
            words[at] = work
            yield* go(rescheduler.reschedTask(1))
          }
        },
        idle,
      ],
      atEnd: () =>
        expect(
          seen.at(-1) === 2 && (target!.cpu.threadFlags & TIF.NEED_RESCHED) === 0,
          () => `the scheduler has seen ${seen.join()} of 1, 2`,
        ),
    }
  }),

  scenario(['E-37'], 'a start-up, an INIT and another start-up', 2, 2, ({ kernels }) => {
    const { cpu } = kernels[1]!
    const starts: string[] = []
    let inits = 0
    cpu.core.initBlocked = false
    cpu.handlers.init = () => void inits++
    cpu.handlers.startup = (vector) => void starts.push(`${vector} after ${inits}`)
    return {
      programs: [
        function* ({ cpu: { descriptors } }) {
          yield* go(descriptors[1]!.postStartup(1))
          yield* go(descriptors[1]!.postInit())
          yield* go(descriptors[1]!.postStartup(2))
        },
        function* ({ cpu: { core } }) {
          core.state = CPU_STATE.waitingForSipi
          while (starts.at(-1) !== '2 after 1') {
            const { doorbell } = core
            if (yield* go(core.deliverInterrupts('eventLoop'))) continue
            yield* go(core.sleep(doorbell, Infinity))
          }
        },
      ],
      invariant: () =>
        expect(!starts.includes('1 after 1'), () => 'it started by what came before the INIT'),
    }
  }),

  scenario(
    ['E-29', 'E-30', 'E-33'],
    'two rounds of standing still, and an interrupt',
    1,
    2,
    (machine) => {
      const both = CpuMask.of(0, 1)
      const inside = [false, false]
      const rounds: string[] = []
      let taken = 0
      let wrong: string | undefined
      now(
        machine.kernels[1]!.idt.requestIrq(FIRST, 'late', () => {
          taken++
          if (inside[1] === true) wrong ??= 'an interrupt was taken while its CPU stood still'
        }),
      )
      function* stand(kernel: Kernel, round: number): Generator<Access, void, number> {
        const { cpu, stop } = kernel
        const flags = yield* go(cpu.localIrqSave())
        inside[cpu.id] = true
        const run = (): void => {
          rounds.push(`${round} on ${cpu.id}`)
          if (!inside.every(Boolean))
            wrong ??= `it ran on CPU ${cpu.id}, and somebody did not stand`
        }
        const outcome = yield* go(stop.participate(round, run))
        if (outcome !== 'ran') wrong ??= `CPU ${cpu.id} ${outcome} in round ${round}`
        inside[cpu.id] = false
        yield* go(cpu.localIrqRestore(flags))
      }
      return {
        programs: [
          function* (kernel) {
            for (const round of [1, 2]) {
              yield* go(kernel.stop.begin(both, both))
              if (round === 1) yield* go(kernel.senders.sendIpiCpu(1, FIRST))
              yield* stand(kernel, round)
            }
          },
          function* (kernel) {
            for (const round of [1, 2]) {
              const at = HEADER.stopState
              while ((yield bus().load(at)) >>> 3 !== round) {
                yield bus().pause()
              }
              yield* stand(kernel, round)
            }
          },
        ],
        invariant: () => wrong,
        atEnd: () =>
          expect(rounds.length === 4 && taken === 1, () => `ran ${rounds.join()}, taken ${taken}`),
      }
    },
  ),

  scenario(['E-23'], 'runs its own part of a call, and is called', 1, 2, (machine) => {
    let runs = 0
    let active = 0
    let deepest = 0
    for (const { cpu, functions } of machine.kernels) {
      // With a safepoint in it and something before that, as a longer function would have.
      functions.register('f', function* () {
        if (cpu.id !== 0) return
        runs++
        deepest = Math.max(deepest, ++active)
        yield bus().load(0)
        yield* go(cpu.poll())
        active--
      })
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

  scenario(
    ['E-25'],
    'comes up while another asks it',
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      const answers: unknown[] = []
      return {
        programs: [
          function* (kernel) {
            yield* machine.callOut(kernel, 1)
            while (answers.length === 0) {
              try {
                answers.push(yield* go(kernel.calls.singleSync(1, 'f', 7)))
              } catch (error) {
                if ((error as IpiError).code !== 'IPI_CPU_OFFLINE') throw error
                yield bus().pause()
              }
            }
          },
          (kernel) => machine.comeUp(kernel),
        ],
        atEnd: () =>
          expect(answers[0] === 7 && calls.length === 1, () => `answer ${answers.join()}`),
      }
    },
    { down: [1] },
  ),

  ...callers,

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
    ['E-07'],
    'dies while it asks, and is buried; the next to ask is answered',
    0,
    3,
    (machine) => {
      const calls = sharing(machine)
      const over = machine.kernels[0]!.cpu.page + WORK
      return {
        programs: [
          function* (kernel) {
            while ((yield bus().load(over)) === 0) {
              yield bus().pause()
            }
            yield* machine.bury(kernel, 2)
            yield* go(kernel.calls.singleSync(1, 'f', 'living'))
          },
          idle,
          function* ({ calls: family }) {
            yield* go(family.singleSync(1, 'f', 'dead', { wait: false }))
            yield bus().store(over, 1)
          },
        ],
        onDeath: () => machine.write(over, 1),
        atEnd: () => expect(calls.includes('living'), () => `ran for ${calls.join()}`),
      }
    },
    { mortal: [2] },
  ),

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
]
