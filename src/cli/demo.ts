/** `interprocessor demo`: each kind of interrupt and each sender, between threads, verified. */

import { availableParallelism } from 'node:os'
import { boot, isIpiError, type Machine } from '../index.ts'
import { Board } from './demo/board.ts'
import { openBoard } from './demo/cpu.ts'
import { defaultCpuCount } from './demo/limits.ts'
import { describe, Stage } from './demo/stage.ts'
import { STEPS } from './demo/steps.ts'
import { bundledWork, usersWork } from './demo/work.ts'
import { UsageError } from './failure.ts'
import { Printer } from './print.ts'
import { entryFor, loadUserFunction, type UserFunction } from './user-module.ts'

/** The options of the command. */
export interface DemoOptions {
  readonly cpus?: number
  readonly module?: string
  readonly function?: string
}

/** Runs the command; gives its exit status. Throws what went wrong, as soon as something does. */
export async function demo(options: DemoOptions): Promise<number> {
  const fn = await usersFunction(options)
  const cpus = options.cpus ?? defaultCpuCount()
  const out = new Printer(process.stdout)
  const start = performance.now()
  const machine = await bootWith(cpus, fn)
  introduce(out, machine, performance.now() - start, fn)
  try {
    const board = new Board()
    await machine.onEachCpu(openBoard, board.buffer)
    const work = fn === undefined ? bundledWork(cpus) : usersWork(fn)
    const stage = new Stage(machine, board, out, work)
    for (const [index, step] of STEPS.entries()) {
      out.step(index + 1, step.title, step.about)
      await step.run(stage)
    }
  } finally {
    await machine.close()
  }
  out.line()
  out.line(`Everything was received and verified, in ${seconds(performance.now() - start)} s.`)
  return 0
}

async function usersFunction(options: DemoOptions): Promise<UserFunction | undefined> {
  if (options.module !== undefined) return loadUserFunction(options.module, options.function)
  if (options.function === undefined) return undefined
  throw new UsageError('--function names a function of the module that --module gives; say which')
}

async function bootWith(cpus: number, fn: UserFunction | undefined): Promise<Machine> {
  const entry = new URL('./demo/entry.js', import.meta.url)
  try {
    return await boot({
      // The book's: every CPU that uses the space is interrupted, whatever it does.
      tlbDriver: 'tlbstate',
      cpus,
      entry: fn === undefined ? entry : entryFor(entry, fn),
      // Every CPU sleeps between two interrupts: one that polls would need none to be rescheduled.
      haltPollMs: 0,
    })
  } catch (error) {
    if (fn === undefined || !isIpiError(error)) throw error
    throw new UsageError(`the CPUs could not be brought up: ${error.message}`, { cause: error })
  }
}

function introduce(
  out: Printer,
  machine: Machine,
  bootMs: number,
  fn: UserFunction | undefined,
): void {
  const online = machine.onlineMask
  const workers = online.size === 2 ? 'is a worker thread' : 'are worker threads'
  out.line(out.style('title', 'Interprocessor interrupts between real threads'))
  out.indented(
    `${online.size} CPUs, up in ${Math.round(bootMs)} ms: CPU 0 is this thread, ` +
      `${describe(online.without(0))} ${workers}.`,
  )
  out.indented(describeProcessors(availableParallelism(), online.size))
  out.indented(
    fn === undefined
      ? 'They run the bundled tasks; your own: --module path/to/module.mjs --function name'
      : `They run ${fn.exportName} of ${fn.module}`,
  )
  out.indented('ICR is what the sender wrote into its interrupt command register; µs are measured.')
}

function describeProcessors(processors: number, cpus: number): string {
  if (cpus <= processors) return `${processors} processors are here, so all CPUs run at once.`
  const here =
    processors === 1
      ? '1 processor runs one thread'
      : `${processors} processors run ${processors} threads`
  return `${here} at once here; the others wait for their turn, and times show that.`
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1)
}
