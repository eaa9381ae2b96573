/**
 * `interprocessor backtrace <pid>`: what every thread of another process does right now.
 *
 *    SIGUSR1  --->  its debugger's port opens  --->  each thread is asked  --->  the port is closed
 *
 * The threads answer in the middle of what they do, so it matters not whether they are busy.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { CLOSE_PORT, PROBE, type Probed, type ProbedCpu } from './backtrace/probe.ts'
import { findDebugger, InspectorClient, type RemoteThread } from './backtrace/inspector-client.ts'
import { LinuxProcess } from './backtrace/linux-process.ts'

/** The options of the command. */
export interface BacktraceOptions {
  readonly timeoutMs: number
}

/** How often is looked whether a port is open, or closed. */
const LOOK_MS = 10
/** How long the process may need to close its port. */
const CLOSE_MS_MAX = 3000
/** A thread whose newest frame is the engine's wait. */
const WAITING = /^\s*at \w+\.wait \(<anonymous>\)/

/** A debugger that is open, and whether it was before. */
interface OpenDebugger {
  readonly port: number
  readonly address: string
  readonly isOurs: boolean
}

/** Runs the command; gives its exit status. Throws `UsageError` if the process cannot be asked. */
export async function backtrace(pid: number, { timeoutMs }: BacktraceOptions): Promise<number> {
  const target = new LinuxProcess(pid)
  // Whoever loses patience leaves no port open either; the second time, at once.
  const patience = new AbortController()
  const onSignal = (): void => patience.abort()
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    const opened = (await findOpen(target)) ?? (await openDebugger(target, timeoutMs))
    if (opened !== undefined) return await ask(target, opened, timeoutMs, patience.signal)
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
  complain(
    target.isAlive
      ? `process ${pid} has not opened its debugger's port within ${timeoutMs} ms. Either its ` +
          'main thread is in a native call: then the port opens when that returns, and stays ' +
          'open. Or the process takes SIGUSR1 for something else, or may not have a debugger'
      : `process ${pid} has ended`,
  )
  return 1
}

async function findOpen(target: LinuxProcess): Promise<OpenDebugger | undefined> {
  for (const port of target.openDebuggerPorts()) {
    const address = await findDebugger(port)
    if (address === undefined) continue
    complain(
      `the debugger of process ${target.pid} (${target.command}) is open, on port ${port}. Each ` +
        'thread is interrupted for a moment to say what it does; the port stays as it is.',
    )
    return { port, address, isOurs: false }
  }
  return undefined
}

async function openDebugger(
  target: LinuxProcess,
  timeoutMs: number,
): Promise<OpenDebugger | undefined> {
  target.checkPortIsFree()
  complain(
    `process ${target.pid} (${target.command}) gets the signal SIGUSR1: it opens the port of its ` +
      'debugger on this host, and writes so on its stderr. Each thread is interrupted for a ' +
      'moment to say what it does. Then the port is closed.',
  )
  const before = new Set(target.listeningPorts())
  process.kill(target.pid, 'SIGUSR1')
  const deadline = performance.now() + timeoutMs
  while (performance.now() < deadline && target.isAlive) {
    await sleep(LOOK_MS)
    for (const port of portsOf(target).filter((each) => !before.has(each))) {
      const address = await findDebugger(port)
      if (address !== undefined) return { port, address, isOurs: true }
    }
  }
  return undefined
}

/** None of a process that has ended. */
function portsOf(target: LinuxProcess): number[] {
  try {
    return target.listeningPorts()
  } catch {
    return []
  }
}

async function ask(
  target: LinuxProcess,
  opened: OpenDebugger,
  timeoutMs: number,
  patience: AbortSignal,
): Promise<number> {
  const client = await InspectorClient.connect(opened.address, timeoutMs)
  const onAbort = (): void => client.interrupt()
  patience.addEventListener('abort', onAbort)
  if (patience.aborted) onAbort()
  let isClosed = true
  let answers: readonly Answered[]
  try {
    const threads = await client.threads(timeoutMs)
    answers = await Promise.all(
      threads.map(async (thread) => {
        const answer = await client.evaluate(thread, PROBE, timeoutMs)
        return { thread, probed: answer?.value as Probed | undefined }
      }),
    )
  } finally {
    isClosed = await leave(target, client, opened)
  }
  for (const line of report(answers, timeoutMs)) console.log(line)
  if (!isClosed) {
    complain(
      `port ${opened.port} is still open: the main thread of process ${target.pid} is in a native ` +
        'call, and closes it when that returns',
    )
  }
  return isClosed && answers.every(({ probed }) => probed !== undefined) ? 0 : 1
}

/**
 * Closes what we have opened, and goes. Gives whether it is closed, or was not ours. The process stops
 * listening first and waits for us to go: a client that goes at the same moment crashes Node 24 and 26.
 */
async function leave(
  target: LinuxProcess,
  client: InspectorClient,
  { port, isOurs }: OpenDebugger,
): Promise<boolean> {
  if (isOurs) client.tell(CLOSE_PORT)
  const deadline = performance.now() + CLOSE_MS_MAX
  const isOpen = (): boolean => isOurs && portsOf(target).includes(port)
  while (isOpen() && performance.now() < deadline) await sleep(LOOK_MS)
  const isClosed = !isOpen()
  await client.close(CLOSE_MS_MAX)
  return isClosed
}

interface Answered {
  readonly thread: RemoteThread
  readonly probed: Probed | undefined
}

function report(answers: readonly Answered[], timeoutMs: number): string[] {
  const own = answers.flatMap(({ probed }) => probed?.cpus.slice(0, 1) ?? [])
  const lines = answers.map(({ thread: { title }, probed }) =>
    probed === undefined
      ? `${title}: no answer within ${timeoutMs} ms; it is in a native call, or in a loop that V8 ` +
        'does not look out of, or has ended'
      : `${title}${describe(probed)}`,
  )
  // As the first CPU sees those for whom no thread has spoken.
  const first = answers.find(({ probed }) => probed?.cpus[0]?.cpu === 0)?.probed
  const spoke = (other: ProbedCpu): boolean =>
    other.activity !== 'dead' && own.some(({ cpu }) => cpu === other.cpu)
  const mute = (first?.cpus.slice(1) ?? []).filter((other) => !spoke(other))
  return [...lines, ...mute.map(({ text }) => text)]
}

function describe({ stack, waitsFor, cpus: [own] }: Probed): string {
  if (own !== undefined) return `, ${own.text}`
  if (stack !== '') return `: ${WAITING.test(stack) ? 'blocked' : 'running'}\n${stack}`
  const kinds = [...new Set(waitsFor)].join(', ')
  return kinds === '' ? ': idle' : `: idle, waiting for ${kinds}`
}

/** On stderr: the report alone goes to stdout. */
function complain(text: string): void {
  console.error(`interprocessor: ${text}`)
}
