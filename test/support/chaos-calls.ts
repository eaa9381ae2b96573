/** One call in any of its forms, and the judgement of what became of it. See docs/errors.md. */

import { inspect, isDeepStrictEqual } from 'node:util'
import { isIpiError, SmpCallError, type CallOptions, type Machine } from '../../src/index.ts'
import { AT, bitsOf, cpusOf, CPUS_MAX, type Ledger, type Outcome } from './chaos-ledger.ts'
import { ask, makeQuestion, replyOf, type Question } from './chaos-questions.ts'
import type { Dice } from './random.ts'

/** Longer than anything in the mixture holds anybody up. What waits longer is a fault. */
export const PATIENCE_MS = 30_000

/** Where a lane does its work. */
export interface Workplace {
  readonly machine: Machine
  readonly book: Ledger
  readonly dice: Dice
  readonly lane: number
  /** Tells the ledger whom this is about. */
  readonly concerns: (bits: number) => void
}

type Form = 'Single' | 'Any' | 'Many' | 'All' | 'Each'
const FORMS: readonly Form[] = ['Single', 'Single', 'Single', 'Any', 'Many', 'All', 'Each']

/** A call as it was made. */
export interface MadeCall {
  readonly form: Form
  readonly question: Question
  /** CPUs that it was for, as bits. */
  readonly asked: number
  readonly wait: boolean
  readonly mayTimeOut: boolean
  readonly unknown: boolean
  readonly signal: AbortSignal | undefined
  /** The lives of the CPUs when it was made: 0 for those that were not online. */
  readonly before: readonly number[]
}

/** One random call; accuses if it does not end as it must. */
export async function makeCall(place: Workplace, blocks: boolean): Promise<void> {
  const { machine, book, dice } = place
  const form = dice.pick(FORMS)
  const cpus = cpusFor(form, machine, dice)
  const asked = bitsOf(cpus)
  const question = makeQuestion(book, dice, asked)
  if (question === undefined) return
  place.concerns(asked)
  const mayTimeOut = dice.chance(0.06)
  const wait = !dice.chance(0.15)
  const signal = !blocks && dice.chance(0.06) ? abortSoon(dice) : undefined
  const call: MadeCall = {
    form,
    question,
    asked,
    wait,
    mayTimeOut,
    unknown: dice.chance(0.01),
    signal,
    before: livesOf(machine, book),
  }
  const options: CallOptions = {
    timeoutMs: mayTimeOut ? dice.pick([0, 0.1, 1, 3]) : PATIENCE_MS,
    ...(wait ? {} : { wait }),
    ...(signal === undefined ? {} : { signal }),
  }
  const start = performance.now()
  try {
    const fn = call.unknown ? 'chaos.nobody knows this' : ask
    judgeValue(place, call, await send(machine, form, blocks, cpus, fn, question, options))
  } catch (error) {
    judgeError(place, call, error)
  } finally {
    book.waited(blocks ? 'blocking call' : 'call', performance.now() - start)
  }
}

function cpusFor(form: Form, machine: Machine, dice: Dice): number[] {
  const possible = machine.possibleMask.size
  const self = machine.cpu.id
  if (form === 'Single') return [dice.below(possible)]
  if (form === 'Any') return dice.some(possible)
  if (form === 'Many') return dice.some(possible).filter((cpu) => cpu !== self)
  const all = [...machine.possibleMask]
  return form === 'Each' ? all : all.filter((cpu) => cpu !== self)
}

function send(
  machine: Machine,
  form: Form,
  blocks: boolean,
  cpus: number[],
  fn: typeof ask | string,
  question: Question,
  options: CallOptions,
): unknown {
  switch (form) {
    case 'Single':
      return blocks
        ? machine.smpCallFunctionSingleSync(cpus[0]!, fn, question, options)
        : machine.smpCallFunctionSingle(cpus[0]!, fn, question, options)
    case 'Any':
      return blocks
        ? machine.smpCallFunctionAnySync(cpus, fn, question, options)
        : machine.smpCallFunctionAny(cpus, fn, question, options)
    case 'Many':
      return blocks
        ? machine.smpCallFunctionManySync(cpus, fn, question, options)
        : machine.smpCallFunctionMany(cpus, fn, question, options)
    case 'All':
      return blocks
        ? machine.smpCallFunctionSync(fn, question, options)
        : machine.smpCallFunction(fn, question, options)
    case 'Each':
      return blocks
        ? machine.onEachCpuSync(fn, question, options)
        : machine.onEachCpu(fn, question, options)
  }
}

function abortSoon(dice: Dice): AbortSignal {
  const controller = new AbortController()
  const delay = dice.below(4)
  if (delay === 0) setImmediate(() => controller.abort(new Error('chaos: given up')))
  else setTimeout(() => controller.abort(new Error('chaos: given up')), delay)
  return controller.signal
}

/** Which life of each CPU is online; 0: none. */
export function livesOf(machine: Machine, book: Ledger): number[] {
  const online = machine.onlineMask
  return Array.from({ length: CPUS_MAX }, (_, cpu) =>
    online.has(cpu) ? book.get(AT.lives + cpu) : 0,
  )
}

/** Judges what a call gave. */
export function judgeValue(place: Workplace, call: MadeCall, value: unknown): void {
  if (call.unknown && call.asked !== 0 && !(value instanceof Map && value.size === 0)) {
    return accuse(place, call, `gave ${show(value)} for a function that nobody knows`)
  }
  if (!(value instanceof Map)) {
    const cpu =
      call.form === 'Any' && call.wait
        ? cpusOf(call.asked).find((each) => replyIn(call, value) === replyOf(call.question.n, each))
        : cpusOf(call.asked)[0]
    if (call.form === 'Any' && !call.wait) return place.book.settled('started')
    if (cpu === undefined) return accuse(place, call, `gave ${show(value)}`)
    return judgeAnswer(place, call, cpu, value)
  }
  judgeAnswers(place, call, value as Map<number, unknown>, new Map())
}

function judgeAnswers(
  place: Workplace,
  call: MadeCall,
  results: ReadonlyMap<number, unknown>,
  errors: ReadonlyMap<number, unknown>,
  late: readonly number[] = [],
): void {
  const { machine, book } = place
  for (const [cpu, value] of results) judgeAnswer(place, call, cpu, value)
  for (const [cpu, error] of errors) judgeOne(place, call, cpu, error)
  const after = livesOf(machine, book)
  for (const cpu of cpusOf(call.asked)) {
    const told = results.has(cpu) || errors.has(cpu) || late.includes(cpu)
    const steady = call.before[cpu] !== 0 && call.before[cpu] === after[cpu]
    // In the online map, and nothing is known of its death: the next look at the books knows.
    if (!told && steady && cpu === 0) accuse(place, call, `says nothing of CPU 0`)
    if (!told && steady) Atomics.or(book.words, AT.silent + call.question.ticket, 1 << cpu)
  }
}

function replyIn({ question }: MadeCall, value: unknown): unknown {
  return question.luggage === undefined ? value : (value as { reply?: unknown } | undefined)?.reply
}

function judgeAnswer(place: Workplace, call: MadeCall, cpu: number, value: unknown): void {
  const { book } = place
  const { ticket, n, luggage, throws } = call.question
  const bit = 1 << cpu
  if ((call.asked & bit) === 0) accuse(place, call, `was answered by CPU ${cpu}, not asked`)
  if (!call.wait) {
    book.settled('started')
    Atomics.or(book.words, AT.owes + ticket, bit)
    if (value !== undefined) accuse(place, call, `gave ${show(value)} without waiting`)
    return
  }
  book.settled('answered')
  if (throws === true) accuse(place, call, `did not throw on CPU ${cpu}`)
  if ((book.get(AT.ran + ticket) & bit) === 0) accuse(place, call, `has not run on CPU ${cpu}`)
  const right =
    replyIn(call, value) === replyOf(n, cpu) &&
    (luggage === undefined || isDeepStrictEqual((value as { luggage: unknown }).luggage, luggage))
  if (!right) accuse(place, call, `was answered wrongly by CPU ${cpu}`)
}

/** Judges what a call failed with. */
export function judgeError(place: Workplace, call: MadeCall, error: unknown): void {
  const { book } = place
  if (error instanceof SmpCallError && error.code === 'IPI_CALL_FAILED') {
    return judgeAnswers(place, call, error.results, error.errors)
  }
  if (call.signal?.aborted === true && error === call.signal.reason) return book.settled('aborted')
  if (isIpiError(error) && error.code === 'IPI_TIMEOUT' && call.mayTimeOut) {
    book.settled('timedOut')
    const late = error.cpus === undefined ? cpusOf(call.asked) : error.cpus
    if (error.started === false) {
      Atomics.or(book.words, AT.mustNot + call.question.ticket, bitsOf(late))
    }
    if (call.form === 'Single' || call.form === 'Any') return
    const { results = new Map(), errors = new Map() } = error
    return judgeAnswers(place, call, results, errors, late)
  }
  if (isIpiError(error) && error.code === 'IPI_NO_CPU' && call.form === 'Any') {
    return book.settled('noCpu')
  }
  judgeOne(place, call, call.form === 'Single' ? cpusOf(call.asked)[0] : undefined, error)
}

/** Judges why one CPU did not answer. */
function judgeOne(place: Workplace, call: MadeCall, cpu: number | undefined, error: unknown): void {
  const outcome = outcomeOf(place, call, cpu, error)
  if (outcome === undefined) accuse(place, call, `failed on CPU ${cpu}: ${describeError(error)}`)
  else place.book.settled(outcome)
}

function outcomeOf(
  { book, machine }: Workplace,
  call: MadeCall,
  cpu: number | undefined,
  error: unknown,
): Outcome | undefined {
  const { ticket, n, throws } = call.question
  if (!isIpiError(error)) {
    const who = cpu === undefined ? cpusOf(call.asked) : [cpu]
    const { reply, message } = error as { reply?: number; message?: string }
    const right = who.some((each) => reply === replyOf(n, each))
    const known = error instanceof RangeError && message === `chaos: ticket ${ticket}`
    return throws === true && right && known ? 'threw' : undefined
  }
  switch (error.code) {
    case 'IPI_CPU_DIED':
      return cpu === 0 ? undefined : 'died'
    case 'IPI_CPU_OFFLINE': {
      // A mask passes over those that have left; CPU 0 never does.
      if (call.form !== 'Single' && call.form !== 'Any') return undefined
      if (cpu === 0) return undefined
      if (cpu !== undefined) Atomics.or(book.words, AT.mustNot + ticket, 1 << cpu)
      return 'offline'
    }
    case 'IPI_UNKNOWN_FUNCTION':
      return call.unknown ? 'unknown' : undefined
    case 'IPI_MACHINE_CLOSED':
      return book.get(AT.leaving + machine.cpu.id) === 0 ? undefined : 'closed'
    default:
      return undefined
  }
}

/** A value in few words. */
function show(value: unknown): string {
  return inspect(value, { depth: 1, breakLength: Infinity })
}

/** An error with all that it knows, in few lines. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code, errors } = error as { code?: string; errors?: ReadonlyMap<number, unknown> }
  const inner = [...(errors ?? [])].map(([cpu, each]) => `; CPU ${cpu}: ${String(each)}`).join('')
  const stack = (error.stack ?? '').split('\n').slice(1, 8).join('\n')
  return `${error.name} ${code ?? ''} ${error.message}${inner}\n${stack}`
}

function accuse({ machine, book, lane }: Workplace, call: MadeCall, what: string): void {
  const { question, form, asked, wait, mayTimeOut } = call
  const { luggage, ...rest } = question
  book.accuse(
    `CPU ${machine.cpu.id}, lane ${lane}: a call ${form} to {${cpusOf(asked).join(',')}} ` +
      `(${JSON.stringify({ ...rest, luggage: typeof luggage, wait, mayTimeOut })}) ${what}`,
  )
}
