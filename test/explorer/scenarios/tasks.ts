/** Tasks: each runs once, and its submitter hears of it, whoever comes, leaves and dies meanwhile. */

import { CPU, SCHED, TASK_SLOT } from '../../../src/hardware/layout.ts'
import type { Kernel } from '../../../src/kernel/kernel.ts'
import type { Task, TaskOwner } from '../../../src/kernel/sched/submission.ts'
import { TASK_STATUS } from '../../../src/kernel/sched/task.ts'
import type { Access } from '../../../src/testing.ts'
import { go, now, type ExploredMachine } from '../../support/explorer-machine.ts'
import { bus, expect, idle, scenario, WORK, type KernelScenario, type Story } from '../scenario.ts'

const NORMAL = 1
const REALTIME = 3

/** The tasks of a story: what ran, and how each ended. */
class Tasks implements TaskOwner {
  /** What was run, in order, and where. */
  readonly ran: string[] = []
  /** How each ended, as its submitter heard. */
  readonly ends: string[] = []
  readonly #machine: ExploredMachine

  /** CPUs of `executors` take tasks; all may submit. */
  constructor(machine: ExploredMachine, ...executors: number[]) {
    this.#machine = machine
    for (const kernel of machine.kernels) {
      this.prepare(kernel)
      machine.makeBook(kernel)
      if (executors.includes(kernel.cpu.id)) now(kernel.sched.open())
    }
  }

  /** Shares the function with one CPU. */
  prepare({ cpu, functions }: Kernel): void {
    const run = (info: unknown): unknown => {
      this.ran.push(`${String(info)} on ${cpu.id}`)
      return `${String(info)} done`
    }
    now(functions.register('task', run))
  }

  /** Submits a task whose argument is `info`. */
  *submit(
    kernel: Kernel,
    info: string,
    priority = NORMAL,
    ...cpus: number[]
  ): Generator<Access, Task, number> {
    const task = this.#machine.makeTask(kernel, this, info, priority, cpus)
    yield* go(kernel.sched.book!.submit(task))
    return task
  }

  settle(task: Task, value: unknown): void {
    const info = String(task.info)
    const good = task.status === TASK_STATUS.returned && value === `${info} done`
    this.ends.push(
      good ? `${info} ended` : `${info} ended wrongly: ${task.status} ${String(value)}`,
    )
  }

  fail(task: Task, error: unknown): void {
    this.ends.push(`${String(task.info)} failed: ${String(error)}`)
  }

  died(task: Task): void {
    this.ends.push(`${String(task.info)} died`)
  }

  /** Each task has ended as one of the given ways has it, and no task ran twice. */
  check(...ways: readonly (readonly string[])[]): string | undefined {
    const names = this.ran.map((ran) => ran.split(' ')[0])
    if (new Set(names).size < names.length) return `run twice: ${this.ran.join(', ')}`
    const ends = [...this.ends].sort().join(', ')
    if (ways.some((way) => [...way].sort().join(', ') === ends)) return this.#books()
    return `ran ${this.ran.join(', ')}; heard ${ends}`
  }

  /** Every slot of a CPU that lives is free, and every open CPU says that it is idle. */
  #books(): string | undefined {
    const { words, kernels } = this.#machine
    for (const { cpu, sched } of kernels) {
      if (this.#machine.isGone(cpu.id)) continue
      const state = words[cpu.page + CPU.schedState]!
      if (state !== SCHED.closed && state !== SCHED.idle) return `CPU ${cpu.id} runs ${state}`
      if (sched.book!.openCount !== 0) return `CPU ${cpu.id} has ${sched.book!.openCount} open`
      for (const at of this.#machine.tasksOf(cpu.id)) {
        const flags = words[at + TASK_SLOT.flags]! & 0xf
        if (flags !== 0) return `a task of CPU ${cpu.id} is in state ${flags}`
      }
    }
    return undefined
  }
}

/** Submits tasks one after the other. */
const submits = (tasks: Tasks, ...infos: string[]) =>
  function* (kernel: Kernel): Generator<Access, void, number> {
    for (const info of infos) yield* tasks.submit(kernel, info)
  }

/** CPU 0 submits, the others run. */
const simple =
  (...infos: string[]) =>
  (machine: ExploredMachine): Story => {
    const tasks = new Tasks(machine, ...machine.kernels.map(({ cpu }) => cpu.id).slice(1))
    return {
      programs: machine.kernels.map(({ cpu }) => (cpu.id === 0 ? submits(tasks, ...infos) : idle)),
      atEnd: () => tasks.check(infos.map((info) => `${info} ended`)),
    }
  }

export const TASKS: readonly KernelScenario[] = [
  scenario(['E-40'], 'a CPU goes idle while tasks come', 2, 2, simple('a', 'b')),

  scenario(['E-40'], 'more tasks come than there are slots', 1, 2, simple('a', 'b', 'c', 'd', 'e')),

  scenario(
    ['E-04', 'E-40'],
    'a CPU stops polling while tasks come',
    1,
    2,
    (machine) => {
      const tasks = new Tasks(machine, 1)
      return {
        programs: [
          function* (kernel) {
            yield* tasks.submit(kernel, 'a')
            yield bus().wait(kernel.cpu.page + WORK, 0, true)
            yield* tasks.submit(kernel, 'b')
          },
          idle,
        ],
        atEnd: () => tasks.check(['a ended', 'b ended']),
      }
    },
    { clock: true, haltPollMs: 1, earlyTimeouts: 1 },
  ),

  scenario(['E-41'], 'two submit to one', 1, 3, (machine) => {
    const tasks = new Tasks(machine, 1)
    return {
      programs: [submits(tasks, 'a'), idle, submits(tasks, 'b')],
      atEnd: () => tasks.check(['a ended', 'b ended']),
    }
  }),

  scenario(['E-42'], 'two take from one queue', 1, 3, simple('a', 'b')),

  scenario(
    ['E-42'],
    'two take from one queue, and one of them dies',
    0,
    3,
    (machine) => {
      const tasks = new Tasks(machine, 1, 2)
      return {
        programs: [submits(tasks, 'a', 'b'), idle, idle],
        atEnd: () =>
          tasks.check(['a ended', 'b ended'], ['a died', 'b ended'], ['a ended', 'b died']),
      }
    },
    { mortal: [2] },
  ),

  scenario(['E-43'], 'a CPU leaves while a task comes', 0, 3, (machine) => {
    const tasks = new Tasks(machine, 1, 2)
    return {
      programs: [submits(tasks, 'a'), (kernel) => machine.leave(kernel), idle],
      atEnd: () => tasks.check(['a ended']),
    }
  }),

  scenario(['E-43'], 'a CPU opens its queue while tasks come', 1, 2, (machine) => {
    const tasks = new Tasks(machine)
    return {
      programs: [
        submits(tasks, 'a', 'b'),
        function* (kernel) {
          yield* go(kernel.sched.open())
        },
      ],
      atEnd: () => tasks.check(['a ended', 'b ended']),
    }
  }),

  scenario(
    ['E-44'],
    'a submitter dies, and who submits after it is served',
    0,
    3,
    (machine) => {
      const tasks = new Tasks(machine, 1)
      return {
        programs: [submits(tasks, 'a'), idle, submits(tasks, 'b')],
        atEnd: () => tasks.check(['a ended'], ['a ended', 'b ended']),
      }
    },
    { mortal: [2] },
  ),

  scenario(['E-45'], 'a task is given up while it is claimed', 2, 2, (machine) => {
    const tasks = new Tasks(machine, 1)
    let withdrawn = false
    return {
      programs: [
        function* (kernel) {
          const task = yield* tasks.submit(kernel, 'a')
          withdrawn = yield* go(kernel.sched.book!.withdraw(task))
        },
        idle,
      ],
      atEnd: () =>
        expect(withdrawn === (tasks.ran.length === 0), () => `given up: ${withdrawn}`) ??
        tasks.check(withdrawn ? [] : ['a ended']),
    }
  }),

  scenario(['E-46'], 'an urgent task comes while another runs and polls', 1, 2, (machine) => {
    const tasks = new Tasks(machine, 1)
    const [, target] = machine.kernels
    const at = target!.cpu.page + WORK
    let overtaken = false
    // It ends when the urgent one has run: nothing else lets it go.
    now(
      target!.functions.register('polls', function* (): Generator<Access, string, number> {
        for (;;) {
          yield* go(target!.cpu.poll())
          overtaken ||= tasks.ran.includes('urgent on 1')
          if (overtaken) return 'a done'
          yield bus().store(at, 1)
          yield bus().pause()
        }
      }),
    )
    return {
      programs: [
        function* (kernel) {
          const task = machine.makeTask(kernel, tasks, 'a', NORMAL, [], 'polls')
          yield* go(kernel.sched.book!.submit(task))
          while ((yield bus().load(at)) === 0) yield bus().pause()
          yield* tasks.submit(kernel, 'urgent', REALTIME)
        },
        idle,
      ],
      atEnd: () => tasks.check(['a ended', 'urgent ended']),
    }
  }),
]
