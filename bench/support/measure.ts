/**
 * Measuring side by side: contenders take turns in one run, so that whatever the machine does
 * meanwhile happens to all of them. Medians and tails; no means.
 */

/** What a number counts. */
export type Unit = 'ns' | 'calls/s' | 'bytes' | 'count' | '%'

/** One way to do something. */
export interface Contender {
  readonly name: string
  /** Takes `count` samples. */
  readonly take: (count: number) => readonly number[] | Promise<readonly number[]>
  /** The same without pauses, for contenders that take it slowly: what is seldom done stays cold. */
  readonly heat?: (count: number) => unknown
}

/** How much to measure. */
export interface Plan {
  /** Turns of each contender. */
  readonly rounds: number
  /** Samples in each turn. */
  readonly perRound: number
  /** Samples of each contender before the first turn, thrown away: until the compiler is done. */
  readonly warmUp: number
  /** When to stop, whatever is left: on a busy machine fewer rounds are better than none. */
  readonly budgetMs: number
}

/** What one contender took: one list of samples per round. */
export type Series = readonly (readonly number[])[]

/** One line of the result. */
export interface Row {
  readonly name: string
  readonly unit: Unit
  readonly count: number
  readonly min: number
  readonly median: number
  /** Of times the slowest hundredth; undefined with fewer than a hundred samples. */
  readonly p99: number | undefined
  /** The median of each round, for whoever wants to see how it moved. */
  readonly rounds: readonly number[]
  /** The row that this one is compared with. */
  readonly against?: string
  /** This median by that one. */
  readonly ratio?: number
  /** The first and third quartile of the same ratio, round by round. */
  readonly ratioQuartiles?: readonly [number, number]
}

/** Lets every contender take its turns; gives what each took, in the same order. */
export async function takeTurns(contenders: readonly Contender[], plan: Plan): Promise<Series[]> {
  for (const contender of contenders) {
    await heat(contender, plan.warmUp, plan.budgetMs / 2 / contenders.length)
  }
  const series = contenders.map((): (readonly number[])[] => [])
  const until = performance.now() + plan.budgetMs
  for (let round = 0; round < plan.rounds && performance.now() < until; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      // Nobody is always first, nor always behind the same.
      const step = round % 2 === 0 ? turn : contenders.length - 1 - turn
      const who = (step + (round >> 1)) % contenders.length
      series[who]!.push(await contenders[who]!.take(plan.perRound))
      await new Promise(setImmediate)
    }
  }
  return series
}

/** Lets a contender run until the compiler has seen enough of it, or it has had its time. */
async function heat(contender: Contender, samples: number, budgetMs: number): Promise<void> {
  const run = contender.heat ?? contender.take
  const step = Math.ceil(samples / 20)
  const until = performance.now() + budgetMs
  for (let done = 0; done < samples && performance.now() < until; done += step) await run(step)
}

/** The rows of contenders that took turns; all but the first are compared with the first. */
export async function compare(
  contenders: readonly Contender[],
  plan: Plan,
  unit: Unit = 'ns',
): Promise<Row[]> {
  const series = await takeTurns(contenders, plan)
  return contenders.map(({ name }, i) => {
    const row = summarize(name, unit, series[i]!)
    return i === 0 ? row : against(row, summarize(contenders[0]!.name, unit, series[0]!))
  })
}

/** One contender's row. */
export function summarize(name: string, unit: Unit, series: Series): Row {
  const all = Float64Array.from(series.flat()).sort()
  return {
    name,
    unit,
    count: all.length,
    min: all[0] ?? NaN,
    median: quantile(all, 0.5),
    p99: all.length < 100 ? undefined : quantile(all, 0.99),
    rounds: series.map(median),
  }
}

/** The same row, compared with another that was measured beside it. */
export function against(row: Row, base: Row): Row {
  const ratios = Float64Array.from(
    row.rounds.map((value, round) => value / (base.rounds[round] ?? NaN)),
  ).sort()
  return {
    ...row,
    against: base.name,
    ratio: row.median / base.median,
    ratioQuartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
  }
}

/** The middle one of some numbers. */
export function median(values: readonly number[]): number {
  return quantile(Float64Array.from(values).sort(), 0.5)
}

function quantile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN
}

/** Times something asynchronous; gives nanoseconds. */
export async function timeAwaited(once: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await once()
  return (performance.now() - start) * 1e6
}

/** Samples of something asynchronous, one at a time, with a pause before each. */
export function oneByOne(once: () => Promise<unknown>, pause?: () => Promise<unknown>) {
  return async (count: number): Promise<number[]> => {
    const times: number[] = []
    for (let i = 0; i < count; i++) {
      await pause?.()
      times.push(await timeAwaited(once))
    }
    return times
  }
}
