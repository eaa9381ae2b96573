/** Adaptive polling: what it learns from each wake-up, and when it gives up. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { HaltPolling } from '../../src/kernel/halt-polling.ts'

const START_MS = 0.02
const MAX_MS = 0.2
/** From 20 µs to 200 µs by doubling takes four steps; two failures more, and it stops. */
const FAILURES_MAX = 6
/** Later than any polling would have caught. */
const LATE_MS = 1000

/** The polling times after each of `count` wake-ups that came `sleptMs` after going to sleep. */
function wake(polling: HaltPolling, count: number, sleptMs: number): number[] {
  return Array.from({ length: count }, () => {
    polling.woke(sleptMs)
    return polling.ms
  })
}

/** Polling is in vain so many times. */
function fail(polling: HaltPolling, count: number): void {
  for (let i = 0; i < count; i++) polling.polled(false)
}

/** One that has grown to its most. */
function grown(): HaltPolling {
  const polling = new HaltPolling(MAX_MS)
  wake(polling, 5, 0)
  assert.equal(polling.ms, MAX_MS)
  return polling
}

/** How many wake-ups pass until it polls again. */
function restOf(polling: HaltPolling): number {
  for (let passed = 0; passed < 1000; passed++) {
    polling.woke(0)
    if (polling.ms > 0) return passed
  }
  assert.fail('it never polls again')
}

describe('the polling time', () => {
  test('it begins at 0 and grows from 20 µs by doubling, to the maximum and no further', () => {
    const polling = new HaltPolling(MAX_MS)
    assert.equal(polling.ms, 0)
    assert.deepEqual(wake(polling, 7, MAX_MS), [0.02, 0.04, 0.08, 0.16, 0.2, 0.2, 0.2])
  })

  test('a maximum below 20 µs is kept', () => {
    assert.deepEqual(wake(new HaltPolling(0.01), 2, 0), [0.01, 0.01])
  })

  test('it halves with each wake-up that polling could not have caught, and falls to 0', () => {
    const polling = grown()
    assert.deepEqual(wake(polling, 2, MAX_MS + 0.001), [0.1, 0.05])
    assert.deepEqual(wake(polling, 4, LATE_MS), [0.025, 0.0125, 0, 0])
  })

  test('after it fell to 0 the next early wake-up makes it grow again', () => {
    const polling = grown()
    wake(polling, 10, LATE_MS)
    assert.deepEqual(wake(polling, 2, 0), [START_MS, 2 * START_MS])
  })

  test('0 means never', () => {
    const polling = new HaltPolling(0)
    assert.deepEqual(wake(polling, 3, 0), [0, 0, 0])
    polling.polled(true)
    assert.deepEqual(wake(polling, 3, LATE_MS), [0, 0, 0])
  })

  test('Infinity means always, whatever comes', () => {
    const polling = new HaltPolling(Infinity)
    assert.equal(polling.ms, Infinity)
    assert.deepEqual(wake(polling, 3, 1e9), [Infinity, Infinity, Infinity])
    fail(polling, 1000)
    assert.equal(polling.ms, Infinity)
    polling.polled(true)
    assert.deepEqual(wake(polling, 1, 0), [Infinity])
  })
})

describe('polling in vain', () => {
  test('it stops after as many failures in a row as growing takes, and two more', () => {
    const polling = grown()
    fail(polling, FAILURES_MAX - 1)
    assert.equal(polling.ms, MAX_MS)
    fail(polling, 1)
    assert.equal(polling.ms, 0)
  })

  test('the longer the maximum, the more failures it bears', () => {
    for (const [maxMs, failuresMax] of [
      [0.01, 2],
      [0.02, 2],
      [0.04, 3],
      [0.05, 4],
      [20, 12],
    ] as const) {
      const polling = new HaltPolling(maxMs)
      polling.woke(0)
      fail(polling, failuresMax - 1)
      assert.ok(polling.ms > 0, `${maxMs} ms bears ${failuresMax - 1} failures`)
      fail(polling, 1)
      assert.equal(polling.ms, 0, `${maxMs} ms does not bear ${failuresMax}`)
    }
  })

  test('a success between failures makes them count from the start', () => {
    const polling = grown()
    fail(polling, FAILURES_MAX - 1)
    polling.polled(true)
    fail(polling, FAILURES_MAX - 1)
    assert.equal(polling.ms, MAX_MS)
    fail(polling, 1)
    assert.equal(polling.ms, 0)
  })

  test('it lets 2, 4, 8, … and at most 64 wake-ups pass before it tries again', () => {
    const polling = grown()
    const rests = Array.from({ length: 8 }, () => {
      fail(polling, FAILURES_MAX)
      assert.equal(polling.ms, 0)
      return restOf(polling)
    })
    assert.deepEqual(rests, [2, 4, 8, 16, 32, 64, 64, 64])
  })

  test('late wake-ups pass as early ones do', () => {
    const polling = grown()
    fail(polling, FAILURES_MAX)
    assert.deepEqual(wake(polling, 2, LATE_MS), [0, 0])
    assert.deepEqual(wake(polling, 1, 0), [START_MS])
  })

  test('after the rest it begins with 20 µs, not where it stopped', () => {
    const polling = grown()
    fail(polling, FAILURES_MAX)
    assert.deepEqual(wake(polling, 4, 0), [0, 0, START_MS, 2 * START_MS])
  })

  test('a success makes the next rest as short as the first', () => {
    const polling = grown()
    for (const rest of [2, 4, 8]) {
      fail(polling, FAILURES_MAX)
      assert.equal(restOf(polling), rest)
    }
    polling.polled(true)
    fail(polling, FAILURES_MAX)
    assert.equal(restOf(polling), 2)
  })
})

describe('a steady interval', () => {
  /** Idles as a CPU does that something wakes every `intervalMs`; gives how often polling caught it. */
  function idle(polling: HaltPolling, intervalMs: number, rounds: number): number {
    let caught = 0
    for (let round = 0; round < rounds; round++) {
      const polledMs = polling.ms
      const isCaught = polledMs >= intervalMs
      if (isCaught) caught++
      if (polledMs > 0) polling.polled(isCaught)
      if (!isCaught) polling.woke(intervalMs - polledMs)
    }
    return caught
  }

  for (const maxMs of [0.02, 0.03, 0.2, 1, 20]) {
    test(`up to ${maxMs} ms it is reached, though polling fails while it grows`, () => {
      for (const part of [0.001, 0.1, 0.3, 0.5, 0.51, 0.9, 1]) {
        const growths = Math.ceil(Math.log2(maxMs / START_MS)) + 1
        const caught = idle(new HaltPolling(maxMs), part * maxMs, 100)
        assert.ok(caught >= 100 - growths, `an interval of ${part * maxMs} ms: ${caught} of 100`)
      }
    })
  }

  test('far above the maximum it is left alone', () => {
    const polling = grown()
    assert.equal(idle(polling, LATE_MS, 100), 0)
    assert.equal(polling.ms, 0)
  })
})
