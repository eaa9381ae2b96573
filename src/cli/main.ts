#!/usr/bin/env node
/** The command line: parses, runs a command, and turns what comes of it into an exit status. */

import { readFileSync } from 'node:fs'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { SmpCallError } from '../index.ts'
import { backtrace, type BacktraceOptions } from './backtrace.ts'
import { call, type CallOptions } from './call.ts'
import { demo, type DemoOptions } from './demo.ts'
import { CPU_COUNT_MAX, CPU_COUNT_MIN, defaultCpuCount } from './demo/limits.ts'
import { DemoFailure, UsageError } from './failure.ts'

const STATUS = { success: 0, failure: 1, usage: 2 } as const

/** The most CPUs that any machine can have, and the longest wait that a timer can measure. */
const CPUS_MAX = 256
const TIMEOUT_MS_MAX = 0x7fffffff
const TIMEOUT_MS_DEFAULT = 30_000
/** The most that Linux numbers processes, and how long threads get to answer: V8 may need two seconds. */
const PID_MAX = 2 ** 22
const BACKTRACE_MS_DEFAULT = 5000

async function run(args: readonly string[]): Promise<number> {
  let status: number = STATUS.success
  const program = new Command('interprocessor')
    .description("Linux's interprocessor interrupts for JavaScript threads.")
    .version(readVersion())
    .exitOverride()
    .showHelpAfterError('(interprocessor --help says more)')

  program
    .command('demo')
    .description('show every kind of interrupt and every sender between threads of this machine')
    .option(
      '--cpus <n>',
      `how many CPUs, this thread included: ${CPU_COUNT_MIN} to ${CPU_COUNT_MAX} ` +
        `(default: ${defaultCpuCount()})`,
      integer(CPU_COUNT_MIN, CPU_COUNT_MAX),
    )
    .option('--module <path>', 'a module of your own to call instead of the bundled tasks')
    .option('--function <name>', 'the function of it to call, without an argument')
    .action(async (options: DemoOptions) => {
      status = await demo(options)
    })

  program
    .command('call')
    .description('run a function of your own module on every CPU and print what each returned')
    .argument('<module>', 'the path of the module')
    .argument('<function>', 'the name of an exported function: synchronous, plain or shared')
    .argument('[json]', 'what to call it with, as JSON')
    .option(
      '--cpus <n>',
      'how many CPUs, this thread included (default: one per processor)',
      integer(1, CPUS_MAX),
    )
    .option(
      '--timeout-ms <ms>',
      'how long to wait for each CPU',
      integer(1, TIMEOUT_MS_MAX),
      TIMEOUT_MS_DEFAULT,
    )
    .option('--json', 'print one JSON object for programs to read')
    .addHelpText(
      'after',
      '\nEvery CPU imports the module. CPU 0, this thread, runs the function last, and only if\n' +
        'the others have answered in time.\n\n' +
        'Exit status: 0 if it succeeded everywhere, 1 if it failed on some CPU, 2 for wrong input.',
    )
    .action(
      async (module: string, name: string, json: string | undefined, options: CallOptions) => {
        status = await call(module, name, json, options)
      },
    )

  program
    .command('backtrace')
    .description('say what every thread of another Node process does right now; Linux only')
    .argument('<pid>', 'the number of the process', integer(1, PID_MAX))
    .option(
      '--timeout-ms <ms>',
      'how long to wait for the process, and for each thread',
      integer(1, TIMEOUT_MS_MAX),
      BACKTRACE_MS_DEFAULT,
    )
    .addHelpText(
      'after',
      '\nThe process gets SIGUSR1, by which Node opens the port of its debugger; the threads are\n' +
        'asked there, busy or not, and the port is closed. A debugger that is open already is used\n' +
        'and stays open. A process that listens to SIGUSR1 itself takes it as its own.\n\n' +
        'Exit status: 0 if every thread answered, 1 if one did not, 2 if the process cannot be asked.',
    )
    .action(async (pid: number, options: BacktraceOptions) => {
      status = await backtrace(pid, options)
    })

  try {
    await program.parseAsync(args, { from: 'user' })
    return status
  } catch (error) {
    return report(error)
  }
}

/** Says what went wrong; gives the exit status that it means. */
function report(error: unknown): number {
  if (error instanceof CommanderError) {
    // It has printed its message already, or the help that was asked for.
    return error.exitCode === 0 ? STATUS.success : STATUS.usage
  }
  if (error instanceof UsageError) {
    console.error(`interprocessor: ${error.message}`)
    return STATUS.usage
  }
  if (error instanceof SmpCallError) {
    // Each CPU's error is in it; one of them tells enough.
    console.error(`interprocessor: ${error.message}`)
    console.error(error.cause)
  } else if (error instanceof DemoFailure) {
    console.error(`interprocessor: FAILED: ${error.message}`)
  } else {
    console.error('interprocessor:', error)
  }
  return STATUS.failure
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= least && value <= most) return value
    throw new InvalidArgumentError(`It is an integer from ${least} to ${most}.`)
  }
}

function readVersion(): string {
  const file = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

/** Whoever reads our output may stop early, as `head` does. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(STATUS.success)
  throw error
})

const status = await run(process.argv.slice(2))
// Not left to the event loop: a user's module may keep it alive, or a thread may never end. What
// was printed goes out first.
for (const stream of [process.stdout, process.stderr]) {
  await new Promise<void>((resolve) => stream.write('', () => resolve()))
}
process.exit(status)
