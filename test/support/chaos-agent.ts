/** The agent of chaos, on CPU 0: what it does to a machine that works, at random. */

import { setTimeout as pause } from 'node:timers/promises'
import { isIpiError } from '../../src/index.ts'
import { describeError, PATIENCE_MS } from './chaos-calls.ts'
import { endedWhileComingUp, type Crew } from './chaos-crew.ts'
import { AGENT_LANE, AT, BRING_UP_LANE, type Ledger, type Operation } from './chaos-ledger.ts'
import { ORDER } from './chaos-orders.ts'
import { isFull } from './chaos-questions.ts'
import { beginWork } from './chaos-tasks.ts'
import type { Dice } from './random.ts'

/** The longest that the agent lets a thread stand still. */
const STALL_MS_MAX = 300

/** Something that the agent does. */
interface Deed {
  readonly weight: number
  readonly run: (agent: Agent) => Promise<void> | void
}

const DEEDS: readonly Deed[] = [
  { weight: 8, run: (agent) => agent.terminate() },
  { weight: 4, run: (agent) => agent.order(ORDER.exit) },
  { weight: 4, run: (agent) => agent.order(ORDER.exitInHandler) },
  { weight: 3, run: (agent) => agent.order(ORDER.throwOut) },
  { weight: 4, run: (agent) => agent.order(ORDER.stallTask) },
  { weight: 4, run: (agent) => agent.order(ORDER.stallHandler) },
  { weight: 4, run: (agent) => agent.order(ORDER.stallInterruptsOff) },
  { weight: 2, run: (agent) => agent.order(ORDER.stallTask, 0) },
  { weight: 5, run: (agent) => agent.takeDown() },
  { weight: 30, run: (agent) => agent.restoreOne() },
  { weight: 5, run: (agent) => agent.flood() },
]

/** Chaos on one machine. */
export class Agent {
  readonly crew: Crew
  readonly #book: Ledger
  readonly #dice: Dice
  #restoring: Promise<void> | undefined

  constructor(crew: Crew, book: Ledger, dice: Dice) {
    this.crew = crew
    this.#book = book
    this.#dice = dice
  }

  /** Does one thing after the other to a machine at work, for so long. */
  async rage(forMs: number): Promise<void> {
    const end = performance.now() + forMs
    const goesOn = (): boolean =>
      performance.now() < end && !isFull(this.#book) && this.#book.get(AT.accusations) === 0
    while (goesOn()) {
      await pause(this.#dice.between(1, 40))
      await this.#dice.weighted(DEEDS).run(this)
    }
    await this.#restoring
  }

  /** Notes what the agent does, for the judge; accuses if it fails. */
  async #act(operation: Operation, cpu: number, run: () => Promise<void>): Promise<void> {
    const lane = operation === 'bringing up' ? BRING_UP_LANE : AGENT_LANE
    this.#book.begin(0, lane, operation, 1 << cpu)
    try {
      await run()
    } catch (error) {
      this.#book.accuse(`${operation}, CPU ${cpu}: ${describeError(error)}`)
    } finally {
      this.#book.end(0, lane)
    }
  }

  #victim(): number | undefined {
    const online = [...this.crew.machine.onlineMask].filter((cpu) => cpu !== 0)
    return online.length === 0 ? undefined : this.#dice.pick(online)
  }

  async terminate(): Promise<void> {
    const cpu = this.#victim()
    const thread = cpu === undefined ? undefined : this.crew.threadOf(cpu)
    if (cpu === undefined || thread === undefined) return
    await this.#act('ending a thread', cpu, async () => {
      await thread.terminate()
      this.#book.count('terminated')
    })
  }

  /** Leaves an order where a CPU finds it, at its next step or in its next handler. */
  order(order: number, cpu = this.#victim()): void {
    if (cpu === undefined) return
    this.#book.set(AT.orderMs + cpu, this.#dice.between(5, STALL_MS_MAX))
    this.#book.set(AT.order + cpu, order)
  }

  /** Everybody who works calls one CPU as often and as fast as it can. */
  flood(): void {
    this.#book.set(AT.floodTarget, this.#dice.pick([...this.crew.machine.onlineMask]))
    this.#book.add(AT.flood)
    this.#book.count('floods')
  }

  async takeDown(): Promise<void> {
    const cpu = this.#victim()
    if (cpu === undefined) return
    const hasty = this.#dice.chance(0.3)
    const force = this.#dice.chance(0.5)
    const vetoed = this.#dice.chance(0.1)
    await this.#act('taking down', cpu, async () => {
      this.#book.set(AT.leaving + cpu, 1)
      this.#book.set(AT.veto + 1, vetoed ? 1 : 0)
      try {
        const timeoutMs = hasty ? this.#dice.between(1, 30) : PATIENCE_MS
        await this.crew.machine.cpuDown(cpu, { force, timeoutMs })
        this.#book.count('left')
      } catch (error) {
        this.#book.count('did not leave')
        const code = isIpiError(error) ? error.code : ''
        const wasVetoed = vetoed && this.#book.get(AT.veto + 1) === 0
        if (code === 'IPI_HOTPLUG_VETO' && wasVetoed) this.#book.set(AT.leaving + cpu, 0)
        else if (code === 'IPI_CPU_OFFLINE' && !this.crew.machine.onlineMask.has(cpu)) return
        else if (!hasty || (code !== 'IPI_TIMEOUT' && code !== 'IPI_CPU_BUSY')) throw error
      } finally {
        this.#book.set(AT.veto + 1, 0)
      }
    })
  }

  /** One CPU that is not there comes back, if chaos lets it, while the agent does other things. */
  restoreOne(): void {
    const { missing } = this.crew
    if (missing.length === 0 || this.#restoring !== undefined) return
    const cpu = this.#dice.pick(missing)
    const fate = this.#dice.pick(['veto', 'end', ...Array<string>(8).fill('live')])
    this.#book.set(AT.veto, fate === 'veto' ? 1 : 0)
    const before = this.crew.newest
    const timer =
      fate === 'end'
        ? setTimeout(
            () => {
              const { newest } = this.crew
              if (newest !== before) void newest?.terminate()
            },
            this.#dice.between(0, 200),
          )
        : undefined
    this.#restoring = this.restore(cpu, fate !== 'live').finally(() => {
      clearTimeout(timer)
      this.#book.set(AT.veto, 0)
      this.#restoring = undefined
    })
  }

  /** Brings a CPU up and sets it to work, if there is work. `mayFail`: chaos saw to it. */
  async restore(cpu: number, mayFail = false): Promise<void> {
    await this.#act('bringing up', cpu, async () => {
      const start = performance.now()
      try {
        await this.crew.restore(cpu)
      } catch (error) {
        this.#book.count('did not come up')
        if (mayFail && endedWhileComingUp(error)) return
        throw error
      }
      this.#book.count('came up')
      this.#book.waited('bringing up', performance.now() - start)
      if (this.#book.get(AT.phase) !== 0) await this.#setToWork(cpu)
    })
  }

  async #setToWork(cpu: number): Promise<void> {
    try {
      await this.crew.machine.smpCallFunctionSingle(cpu, beginWork, this.#dice.seed())
    } catch (error) {
      // What was ended while it came up may end after it, too.
      if (!isIpiError(error)) throw error
      if (error.code !== 'IPI_CPU_DIED' && error.code !== 'IPI_CPU_OFFLINE') throw error
    }
  }

  /** Everybody begins. */
  async begin(): Promise<void> {
    this.#book.set(AT.phase, 1)
    await this.crew.machine.onEachCpu(beginWork, this.#dice.seed())
  }
}
