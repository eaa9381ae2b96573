/** A run of chaos: one machine after the other, each of another kind, until the time is over. */

import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { Agent } from './chaos-agent.ts'
import { describeError } from './chaos-calls.ts'
import { Crew, type CrewOptions } from './chaos-crew.ts'
import { AGENT_LANE, AT, Ledger } from './chaos-ledger.ts'
import { describeAsked, type JudgeData } from './chaos-judge.ts'
import { describeScene } from './machine-scene.ts'
import { quiesce, type FirstAccounts } from './chaos-quiesce.ts'
import { Dice } from './random.ts'

/** What is asked of a run. */
export interface ChaosOptions {
  readonly seconds: number
  readonly seed: number
  /** CPUs of each machine, 2 to 8; else each has another number. */
  readonly cpus?: number
  readonly driver?: 'queue' | 'callData'
  /** How long anything may take before it is accused. */
  readonly limitMs?: number
  /** Called now and then. */
  readonly onProgress?: (book: Ledger, machine: string) => void
}

/** What became of it. */
export interface ChaosReport {
  readonly book: Ledger
  readonly seconds: number
  /** What is wrong; none if the run is green. */
  readonly accusations: readonly string[]
  /** What the machine looked like then. */
  readonly scene: string
  /** Resident memory when each machine had been closed, in MiB. */
  readonly rssMb: readonly number[]
}

/** More than any wait in the mixture has before it gives up by itself. */
const LIMIT_MS = 45_000
const PROGRESS_MS = 1000
/** Growth of memory means something only in a run of so many machines. */
const MACHINES_TO_JUDGE_MEMORY = 60

/** Runs chaos; ends early at the first accusation. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seconds, seed, limitMs = LIMIT_MS } = options
  const book = new Ledger()
  const dice = new Dice(seed)
  const workerData: JudgeData = { ledger: book.words.buffer, seed, limitMs }
  const judge = new Worker(new URL('./chaos-judge.js', import.meta.url), { workerData })
  // Before the first machine, which takes every new thread for one of its own.
  await once(judge, 'online')
  const start = performance.now()
  const passed = (): number => (performance.now() - start) / 1000
  const rssMb: number[] = []
  let scene = ''
  let name = ''
  const timer = setInterval(() => options.onProgress?.(book, name), PROGRESS_MS)
  try {
    while (passed() < seconds && book.get(AT.accusations) === 0) {
      const kind = drawMachine(options, dice)
      name = describeKind(kind)
      book.clearMachine()
      scene = await runMachine(kind, book, dice, judge, () => seconds - passed())
      rssMb.push(Math.round(process.memoryUsage.rss() / 2 ** 20))
    }
  } finally {
    clearInterval(timer)
    await judge.terminate()
  }
  const growth = judgeMemory(rssMb)
  if (growth !== undefined) book.accuse(growth)
  return { book, seconds: passed(), accusations: book.accusations(), scene, rssMb }
}

/** Draws what a machine is like. Few slots, so that calls must wait for them. */
function drawMachine({ cpus: wanted, driver }: ChaosOptions, dice: Dice): CrewOptions {
  const cpus = wanted ?? dice.pick([2, 3, 4, 4, 5, 6, 8])
  return {
    cpus,
    adopted: dice.chance(0.4),
    machine: {
      callDriver: dice.chance(0.65) ? (driver ?? 'queue') : (driver ?? 'callData'),
      apic: dice.pick(['flat', 'flat', 'x2apic', 'bigsmp']),
      haltPollMs: dice.pick([0, 0.2, 0.2, 2]),
      slotCount: dice.pick([cpus, cpus + 2, 16, 64]),
      slotBytes: dice.pick([128, 1024]),
      bootTimeoutMs: 30_000,
    },
  }
}

function describeKind({ cpus, adopted, machine }: CrewOptions): string {
  const { callDriver, apic, haltPollMs, slotCount, slotBytes } = machine
  return (
    `${cpus} ${adopted ? 'adopted' : 'booted'} CPUs, ${callDriver}, ${apic}, ` +
    `haltPollMs ${haltPollMs}, ${slotCount} slots of ${slotBytes} bytes`
  )
}

/** One machine: work and chaos, rest and a look at the books, several times. Gives the scene. */
async function runMachine(
  kind: CrewOptions,
  book: Ledger,
  dice: Dice,
  judge: Worker,
  secondsLeft: () => number,
): Promise<string> {
  book.begin(0, AGENT_LANE, 'bringing up', -1 >>> (32 - kind.cpus))
  const crew = await Crew.make(book, kind)
  judge.postMessage(crew.machine.memory)
  book.end(0, AGENT_LANE)
  book.count('machines')
  const agent = new Agent(crew, book, dice)
  let scene = ''
  const accused = watchForAccusations(book)
  const rounds = async (): Promise<void> => {
    const first: FirstAccounts = new Map()
    for (let round = dice.between(2, 4); round > 0 && secondsLeft() > 0; round--) {
      book.clearEpoch()
      await agent.begin()
      await agent.rage(Math.min(secondsLeft() * 1000, dice.between(500, 2500)))
      await quiesce(agent, book, first)
      if (book.get(AT.accusations) > 0) return
    }
    if (dice.chance(0.25)) await stopAll(crew, book)
  }
  try {
    await Promise.race([
      rounds().catch((error: unknown) => book.accuse(describeError(error))),
      accused.promise,
    ])
    if (book.get(AT.accusations) > 0) {
      book.close()
      const asked = describeAsked(crew.machine.cpu.memory, book)
      scene = [describeKind(kind), asked, await describeThreads(crew)].join('\n')
    }
  } finally {
    accused.stop()
    book.set(AT.phase, 0)
    await Promise.race([crew.close(), pause(10_000, undefined, { ref: false })])
  }
  return scene
}

/** What every thread runs, and what Node says of it. */
async function describeThreads({ machine, threadOf }: Crew): Promise<string> {
  const idle = (cpu: number): string => {
    const thread = threadOf(cpu)
    const ms = thread?.performance.eventLoopUtilization().idle
    return `CPU ${cpu}: thread ${thread?.threadId}, idle for ${ms} ms in all`
  }
  const threads = [...machine.presentMask].filter((cpu) => cpu > 0).map(idle)
  return [...threads, await describeScene(machine)].join('\n')
}

/** Every other machine ends by being stopped. */
async function stopAll({ machine }: Crew, book: Ledger): Promise<void> {
  book.count('stops')
  const others = machine.onlineMask.without(0)
  const stopped = await machine.smpSendStop()
  const online = machine.onlineMask.toString()
  if (stopped.equals(others) && online === '0') return
  book.accuse(
    `smpSendStop stopped {${stopped.toString()}} of {${others.toString()}}; online {${online}}`,
  )
}

function watchForAccusations(book: Ledger): {
  readonly promise: Promise<void>
  readonly stop: () => void
} {
  let timer: NodeJS.Timeout | undefined
  const promise = new Promise<void>((resolve) => {
    timer = setInterval(() => {
      if (book.get(AT.accusations) > 0) resolve()
    }, 50)
  })
  return { promise, stop: () => clearInterval(timer) }
}

/** Clear growth only: the last quarter of the machines against the second. */
export function judgeMemory(rssMb: readonly number[]): string | undefined {
  if (rssMb.length < MACHINES_TO_JUDGE_MEMORY) return undefined
  const quarter = Math.floor(rssMb.length / 4)
  const median = (from: number): number =>
    rssMb.slice(from, from + quarter).toSorted((a, b) => a - b)[Math.floor(quarter / 2)]!
  const before = median(quarter)
  const after = median(rssMb.length - quarter)
  if (after < before * 1.5 + 50) return undefined
  return `memory grows: ${before} MiB in the second quarter of the run, ${after} in the last`
}
