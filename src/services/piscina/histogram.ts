/** Times of tasks, in the shape in which piscina shows them. */

import { createHistogram } from 'node:perf_hooks'
import { summarize, type HistogramSummary } from '../pool/histogram.ts'

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
    const moments = {
      mean: mean / SCALE,
      stddev: stddev / SCALE,
      min: min / SCALE,
      max: max / SCALE,
    }
    return summarize(moments, (percent) => this.#histogram.percentile(percent) / SCALE)
  }
}
