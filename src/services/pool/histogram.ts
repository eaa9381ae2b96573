/**
 * How long tasks waited and ran: counts in buckets whose width grows with the value, so that recording is
 * one addition and a percentile is right to three per cent. After HdrHistogram.
 */

/** Buckets for each doubling of the value. */
const STEPS = 32
const STEP_BITS = 5
/** Up to 2^31 µs, that is 36 minutes; what is longer is counted as that. */
const BUCKETS = (31 - STEP_BITS + 1) * STEPS

/** What a histogram says, in milliseconds: the shape of piscina's. */
export interface HistogramSummary {
  readonly average: number
  readonly mean: number
  readonly stddev: number
  readonly min: number
  readonly max: number
  readonly p0_001: number
  readonly p0_01: number
  readonly p0_1: number
  readonly p1: number
  readonly p2_5: number
  readonly p10: number
  readonly p25: number
  readonly p50: number
  readonly p75: number
  readonly p90: number
  readonly p97_5: number
  readonly p99: number
  readonly p99_9: number
  readonly p99_99: number
  readonly p99_999: number
}

/** Durations, as counts. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS)
  #count = 0
  #sum = 0
  #squares = 0
  #min = Infinity
  #max = 0

  /** Counts a duration in milliseconds. */
  record(ms: number): void {
    const micros = ms > 0 ? Math.min(0x7fffffff, Math.round(ms * 1000)) : 0
    const shift = micros < STEPS ? 0 : 31 - STEP_BITS - Math.clz32(micros)
    this.#counts[shift * STEPS + (micros >>> shift)]!++
    this.#count++
    this.#sum += ms
    this.#squares += ms * ms
    if (ms < this.#min) this.#min = ms
    if (ms > this.#max) this.#max = ms
  }

  /** How many were counted. */
  get count(): number {
    return this.#count
  }

  /** Forgets everything. */
  reset(): void {
    this.#counts.fill(0)
    this.#count = this.#sum = this.#squares = this.#max = 0
    this.#min = Infinity
  }

  /** The value that `percent` of those counted do not exceed, in milliseconds; 0 if there is none. */
  percentile(percent: number): number {
    let rest = Math.max(1, Math.ceil((this.#count * percent) / 100))
    if (this.#count === 0) return 0
    for (let i = 0; i < BUCKETS; i++) {
      rest -= this.#counts[i]!
      if (rest <= 0) return Math.min(this.#max, Math.max(this.#min, middleOf(i)))
    }
    return this.#max
  }

  /** All of it. */
  get summary(): HistogramSummary {
    const mean = this.#count === 0 ? 0 : this.#sum / this.#count
    const variance = this.#count === 0 ? 0 : this.#squares / this.#count - mean * mean
    const stddev = Math.sqrt(Math.max(0, variance))
    const min = this.#count === 0 ? 0 : this.#min
    return summarize({ mean, stddev, min, max: this.#max }, (percent) => this.percentile(percent))
  }
}

/** Makes a summary of what a histogram knows, in milliseconds; `at` gives a percentile. */
export function summarize(
  { mean, stddev, min, max }: Pick<HistogramSummary, 'mean' | 'stddev' | 'min' | 'max'>,
  at: (percent: number) => number,
): HistogramSummary {
  return {
    average: mean,
    mean,
    stddev,
    min,
    max,
    p0_001: at(0.001),
    p0_01: at(0.01),
    p0_1: at(0.1),
    p1: at(1),
    p2_5: at(2.5),
    p10: at(10),
    p25: at(25),
    p50: at(50),
    p75: at(75),
    p90: at(90),
    p97_5: at(97.5),
    p99: at(99),
    p99_9: at(99.9),
    p99_99: at(99.99),
    p99_999: at(99.999),
  }
}

function middleOf(bucket: number): number {
  const shift = bucket < 2 * STEPS ? 0 : Math.floor(bucket / STEPS) - 1
  const step = bucket - shift * STEPS
  return ((step + (shift === 0 ? 0 : 0.5)) * 2 ** shift) / 1000
}

/** How long the tasks of a pool waited, and ran: `pool.histogram`. */
export class PoolHistogram {
  readonly #waitTime = new Histogram()
  readonly #runTime = new Histogram()

  /** @internal */
  record(waitedMs: number, ranMs: number): void {
    this.#waitTime.record(waitedMs)
    this.#runTime.record(ranMs)
  }

  /** From submission to the first instruction. */
  get waitTime(): HistogramSummary {
    return this.#waitTime.summary
  }

  /** From the first instruction to the end. */
  get runTime(): HistogramSummary {
    return this.#runTime.summary
  }

  /** Forgets all waiting times. */
  resetWaitTime(): void {
    this.#waitTime.reset()
  }

  /** Forgets all run times. */
  resetRunTime(): void {
    this.#runTime.reset()
  }
}
