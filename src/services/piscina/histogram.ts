/** Times of tasks, in the shape in which piscina shows them. */

import { createHistogram } from 'node:perf_hooks'

/** The times of some tasks, in milliseconds; `p99` is the 99th percentile, `p2_5` the 2.5th. */
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

/** What `piscina.histogram` shows; without `recordTiming` both are undefined. */
export interface PiscinaHistogram {
  readonly runTime: HistogramSummary
  readonly waitTime: HistogramSummary
  resetRunTime(): void
  resetWaitTime(): void
}

/** Recorded are microseconds, shown are milliseconds. */
const SCALE = 1000

/** A histogram of times. */
export class Times {
  readonly #histogram = createHistogram()

  /** Adds a time in milliseconds. */
  record(timeMs: number): void {
    this.#histogram.record(Math.max(1, Math.trunc(timeMs * SCALE)))
  }

  /** Forgets all. */
  reset(): void {
    this.#histogram.reset()
  }

  /** All times together, in milliseconds. */
  get sumMs(): number {
    const { count, mean } = this.#histogram as { count?: number; mean: number }
    return count === undefined || count === 0 ? 0 : (count * mean) / SCALE
  }

  get summary(): HistogramSummary {
    const { mean, stddev, min, max } = this.#histogram
    const at = (percent: number): number => this.#histogram.percentile(percent) / SCALE
    return {
      average: mean / SCALE,
      mean: mean / SCALE,
      stddev: stddev / SCALE,
      min: min / SCALE,
      max: max / SCALE,
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
}
