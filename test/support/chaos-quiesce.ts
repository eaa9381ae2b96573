/** Coming to rest in the midst of chaos, and looking at the books of everybody. */

import { setTimeout as pause } from 'node:timers/promises'
import type { Machine } from '../../src/index.ts'
import type { Agent } from './chaos-agent.ts'
import { describeError, PATIENCE_MS } from './chaos-calls.ts'
import {
  AGENT_LANE,
  AT,
  bitsOf,
  cpusOf,
  CPUS_MAX,
  TICKETS_MAX,
  VECTORS,
  type Ledger,
} from './chaos-ledger.ts'
import { giveAccount, greetAll, takeAccount, takeGreeted } from './chaos-tasks.ts'
import { local } from './chaos-thread.ts'
import { expectBalancedBooks } from './machine-books.ts'

/** More of these than a thread had when it was first asked is a leak. */
const SLACK = 8

/** What each thread had of listeners and resources when it was first asked. */
export type FirstAccounts = Map<number, { readonly listeners: number; readonly resources: number }>

/**
 * Ends the work, brings up whoever is missing, and checks the books. What is wrong is accused; so is
 * whoever does not come to rest, by the judge.
 */
export async function quiesce(agent: Agent, book: Ledger, first: FirstAccounts): Promise<void> {
  const { machine } = agent.crew
  book.count('quiesces')
  book.set(AT.phase, 0)
  for (let cpu = 0; cpu < CPUS_MAX; cpu++) book.set(AT.order + cpu, 0)
  await comeToRest(agent, book)
  if (book.get(AT.accusations) > 0) return
  book.begin(0, AGENT_LANE, 'quiescing', bitsOf(machine.onlineMask))
  try {
    await everybodyAnswersEverybody(machine, book)
    await everyVectorArrives(machine, book)
    await everybodyGivesAccount(machine, book, first)
    checkTickets(book)
    checkVectors(machine, book)
    const reborn = [...machine.onlineMask].filter((cpu) => cpu !== 0)
    await expectBalancedBooks(machine, reborn)
    if (agent.crew.untold > 0) book.accuse(`${agent.crew.untold} deaths were never told`)
  } catch (error) {
    book.accuse(`quiescing: ${describeError(error)}`)
  } finally {
    book.end(0, AGENT_LANE)
  }
}

/** Until nobody works and nobody is missing. The judge sees to it that this ends. */
async function comeToRest(agent: Agent, book: Ledger): Promise<void> {
  while (book.get(AT.accusations) === 0) {
    const { missing } = agent.crew
    for (const cpu of missing) await agent.restore(cpu)
    const working = [...agent.crew.machine.possibleMask].some(
      (cpu) => book.get(AT.working + cpu) !== 0,
    )
    if (missing.length === 0 && !working) return
    await pause(1)
  }
}

/** Asks until there is something; the judge limits it. */
async function fetch<T>(book: Ledger, take: () => Promise<T | undefined>): Promise<T | undefined> {
  while (book.get(AT.accusations) === 0) {
    const found = await take()
    if (found !== undefined) return found
    await pause(1)
  }
  return undefined
}

const options = { timeoutMs: PATIENCE_MS }

async function everybodyAnswersEverybody(machine: Machine, book: Ledger): Promise<void> {
  await machine.onEachCpu(greetAll, undefined, options)
  for (const cpu of machine.onlineMask) {
    const greeted = await fetch(book, () =>
      machine.smpCallFunctionSingle<unknown, number | string | undefined>(
        cpu,
        takeGreeted,
        undefined,
        options,
      ),
    )
    if (greeted === undefined) return
    if (greeted === machine.onlineMask.size) continue
    book.accuse(`CPU ${cpu} called everybody, and ${greeted} answered`)
  }
}

/** One more of each, when nothing else is under way: the last of all is not lost either. */
async function everyVectorArrives(machine: Machine, book: Ledger): Promise<void> {
  const runs = (number: number): number[] =>
    [...machine.onlineMask].map((cpu) => book.get(AT.runs + number * CPUS_MAX + cpu))
  for (const [number, vector] of local.vectors.entries()) {
    const before = runs(number)
    for (const cpu of machine.onlineMask) book.add(AT.attempts + number * CPUS_MAX + cpu)
    machine.sendIpiAll(vector)
    const haveAll = (): boolean => runs(number).every((now, i) => now > before[i]!)
    await fetch(book, () => Promise.resolve(haveAll() || undefined))
  }
}

async function everybodyGivesAccount(
  machine: Machine,
  book: Ledger,
  first: FirstAccounts,
): Promise<void> {
  await machine.onEachCpu(giveAccount, undefined, options)
  for (const cpu of machine.onlineMask) {
    const account = await fetch(book, () =>
      machine.smpCallFunctionSingle(cpu, takeAccount, undefined, options),
    )
    if (account === undefined) return
    const { threadId, softirqsOwed, irqsDisabled, preemptCount, listeners, resources } = account
    const accuse = (what: string): void => book.accuse(`CPU ${cpu} at rest: ${what}`)
    if (account.cpu !== cpu) accuse(`takes itself for CPU ${account.cpu}`)
    if (softirqsOwed !== 0) accuse(`${softirqsOwed} softirqs were raised and did not run`)
    if (irqsDisabled) accuse('interrupts are off in a task')
    if (preemptCount !== 0) accuse(`preempt_count is ${preemptCount}`)
    const then = first.get(threadId) ?? { listeners, resources }
    first.set(threadId, then)
    if (listeners > then.listeners + SLACK) accuse(`${listeners} listeners of its process object`)
    if (resources > then.resources + SLACK) accuse(`${resources} resources of its event loop`)
  }
}

/** Whoever started a call has run it, whoever was there was asked; given up is given up. */
export function checkTickets(book: Ledger): void {
  const { immortal } = book
  const count = Math.min(book.get(AT.tickets), TICKETS_MAX)
  for (let ticket = 0; ticket < count; ticket++) {
    const ran = book.get(AT.ran + ticket)
    const asked = book.get(AT.asked + ticket)
    const late = ran & book.get(AT.mustNot + ticket)
    const owed = book.get(AT.owes + ticket) & ~ran & immortal
    const silent = book.get(AT.silent + ticket) & immortal
    if (silent !== 0) book.accuse(`ticket ${ticket} says nothing of CPUs ${cpusOf(silent).join()}`)
    if (late !== 0)
      book.accuse(`ticket ${ticket} was given up, and ran on CPUs ${cpusOf(late).join()}`)
    if (owed !== 0)
      book.accuse(`ticket ${ticket} had started on CPUs ${cpusOf(owed).join()}: no run`)
    if ((ran & ~asked) !== 0) book.accuse(`ticket ${ticket} ran on ${cpusOf(ran & ~asked).join()}`)
  }
}

/** At least one delivery begins after each send, and no more begin than were sent. */
export function checkVectors(machine: Machine, book: Ledger): void {
  for (let at = 0; at < VECTORS * CPUS_MAX; at++) {
    const cpu = at % CPUS_MAX
    if (!machine.onlineMask.has(cpu)) continue
    const [attempts, completed, delivered, runs] = (
      ['attempts', 'completed', 'delivered', 'runs'] as const
    ).map((name) => book.get(AT[name] + at))
    const which = `vector ${local.vectors[Math.floor(at / CPUS_MAX)]} on CPU ${cpu}`
    if (delivered! < completed!) {
      book.accuse(`${which}: send ${completed} is lost, the last delivery saw ${delivered}`)
    }
    if (runs! > attempts!) book.accuse(`${which}: ${runs} runs of ${attempts} sends`)
  }
}
