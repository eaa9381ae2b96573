/** Asking every other thread and waiting for all, against the bare ways of users who do it by hand. */

import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { BroadcastChannel } from 'node:worker_threads'
import { GenerationThreads } from './support/generation.ts'
import { plan, type Group } from './support/group.ts'
import { withMachine, type Bench } from './support/machine.ts'
import { against, compare, oneByOne, type Contender, type Row } from './support/measure.ts'
import * as cpu from './workers/cpu.ts'

/** How many others are asked. */
const COUNTS = [1, 2, 4, 8] as const
/** How long the CPUs of the second group poll, and after which time they surely have parked. */
const POLL_MS = 5
const PARK_MS = 12

export const sleeping: Group = {
  about: 'Everybody sleeps under an event loop before each call; the caller has slept as well.',
  measure: async (pace) => {
    const rows: Row[] = []
    for (const count of COUNTS) {
      const pause = (): Promise<void> => sleep(1)
      const options = { cpus: count + 1 }
      rows.push(...(await measure(options, plan(pace, 240, 1, 20_000), pause)))
    }
    return rows
  },
}

export const polling: Group = {
  about:
    'Call after call. The CPUs poll between two; the threads of the bare ways sleep, as they must. ' +
    'No more CPUs than processors.',
  measure: async (pace) => {
    const rows: Row[] = []
    for (const count of COUNTS.filter((others) => others < availableParallelism())) {
      const options = { cpus: count + 1, haltPollMs: POLL_MS }
      rows.push(...(await measure(options, plan(pace, 60, 50, 20_000), undefined)))
    }
    return rows
  },
}

/** Measures every way to ask all others; each is compared with the best of the bare ones. */
async function measure(
  options: { readonly cpus: number; readonly haltPollMs?: number },
  how: ReturnType<typeof plan>,
  pause: (() => Promise<unknown>) | undefined,
): Promise<Row[]> {
  const others = options.cpus - 1
  const state = pause === undefined ? 'polling' : 'asleep'
  const threads = await GenerationThreads.start(others)
  const channel = new BroadcastChannel('bench')
  const rows = await withMachine(options, (bench) =>
    compare(
      [...bareWays(bench, channel, threads), ...ourWays(bench)].map(({ name, once }) => ({
        name: `${name}, ${others} ${state}`,
        take: pause === undefined ? backToBack(once) : oneByOne(once, pause),
        heat: oneByOne(once),
      })),
      how,
    ),
  )
  channel.close()
  await threads.stop()
  const bare = rows.slice(0, 3)
  const best = bare.reduce((a, b) => (b.median < a.median ? b : a))
  return rows.map((row) => against(row, best))
}

/** A few calls to get going, and then the samples. */
function backToBack(once: () => Promise<unknown>): Contender['take'] {
  const take = oneByOne(once)
  return async (count) => {
    await sleep(PARK_MS)
    await take(100)
    return take(count)
  }
}

/** One way to ask everybody. */
interface Way {
  readonly name: string
  readonly once: () => Promise<unknown>
}

function bareWays({ ports }: Bench, channel: BroadcastChannel, threads: GenerationThreads): Way[] {
  let answers = 0
  let onAll: () => void = () => undefined
  for (const port of ports) {
    port.on('message', () => {
      if (++answers === ports.length) onAll()
    })
  }
  const all = (ask: () => void): Promise<void> =>
    new Promise((resolve) => {
      answers = 0
      onAll = resolve
      ask()
    })
  return [
    {
      name: 'bare postMessage to each, answers counted',
      once: () => all(() => ports.forEach((port) => port.postMessage({ id: 1, value: 1 }))),
    },
    {
      name: 'bare BroadcastChannel, answers by port',
      once: () => all(() => channel.postMessage(1)),
    },
    {
      name: 'bare generation word, everybody in Atomics.wait',
      once: async () => threads.ask(),
    },
  ]
}

function ourWays({ machine }: Bench): Way[] {
  return [
    { name: 'await smpCallFunction(fn)', once: () => machine.smpCallFunction(cpu.nothing) },
    {
      name: 'smpCallFunctionSync(fn)',
      once: async () => machine.smpCallFunctionSync(cpu.nothing),
    },
  ]
}
