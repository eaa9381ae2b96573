/** Interrupts, clocks and boundaries as choices of the scheduler; and what is made of what is found. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  Exhaustive,
  explore,
  formatFailure,
  Pct,
  Random,
  replay,
  WAIT_RESULT,
  type Bus,
  type Program,
  type Scenario,
} from '../../src/testing.ts'
import { collecting, EverySchedule } from '../support/testing-every.ts'
import { mutex } from '../support/testing-mutex.ts'

const operation = fc.tuple(
  fc.constantFrom<keyof Bus>('load', 'store', 'add', 'exchange', 'boundary', 'notify'),
  fc.nat(1),
  fc.nat(2),
)

/** With waits, which must be for words that stay 0 where nobody notifies: all of them are timed. */
const waiting = fc.oneof(
  { weight: 4, arbitrary: operation },
  fc.tuple(fc.constant<keyof Bus>('wait'), fc.nat(1), fc.constant(0)),
)

describe('nothing is left out', () => {
  test('with interrupts at any access, during waits, and at boundaries', () => {
    const programs = fc.tuple(
      fc.array(waiting, { maxLength: 3 }),
      fc.array(operation, { maxLength: 2 }),
    )
    const interrupt = fc.array(operation, { minLength: 1, maxLength: 2 })
    const more = { interruptible: [0], interruptsMax: 1, earlyTimeouts: 1 }
    fc.assert(
      fc.property(programs, interrupt, (operations, inInterrupt) => {
        const all = new Set<string>()
        const seen = new Set<string>()
        const every = explore(collecting(operations, all, more, inInterrupt), new EverySchedule())
        const clever = explore(collecting(operations, seen, more, inInterrupt), new Exhaustive())
        assert.ok(clever.exhausted && clever.runs <= every.runs)
        assert.deepEqual([...seen].toSorted(), [...all].toSorted())
      }),
      { numRuns: 200 },
    )
  })
})

/** Adds 1 to a word in two steps; an interrupt of CPU 0 does the same. */
const adds: Program = function* (bus) {
  const seen = yield bus.load(0)
  yield bus.store(0, seen + 1)
}

function interrupted(program: Program, more: Partial<Scenario> = {}): Scenario {
  return {
    name: 'interrupted',
    words: 2,
    interruptible: [0],
    setup: (memory) => ({
      cpus: [program],
      interrupt: () => adds,
      atEnd: () => (memory[0] === 0 || memory[0] === 2 ? undefined : `it is ${memory[0]}`),
    }),
    ...more,
  }
}

describe('an interrupt', () => {
  test('comes between two accesses of a program, and the table shows it', () => {
    const scenario = interrupted(adds)
    const { failure } = explore(scenario, new Exhaustive())
    // Without an interrupt it is 1, which the books do not allow either: the shortest of all.
    assert.equal(failure?.schedule, '0*2')
    const between = replay(scenario, '0 i0 0*3')
    assert.equal(between?.kind, 'books')
    assert.deepEqual(formatFailure(scenario, between).split('\n').slice(1, -1), [
      ' step  CPU 0',
      '    1  [0] is 0',
      '    2  is interrupted',
      '    3    [0] is 0',
      '    4    [0] := 1',
      '    5  [0] := 1',
    ])
  })

  test('is found by every strategy', () => {
    const scenario: Scenario = {
      ...interrupted(adds),
      setup: (memory) => ({
        cpus: [adds],
        interrupt: () =>
          function* (bus) {
            yield bus.add(1, 1)
            yield* adds(bus)
          },
        atEnd: () => (memory[0] === 1 + memory[1]! ? undefined : 'one was lost'),
      }),
    }
    const strategies = [
      new Exhaustive({ preemptions: 0 }),
      new Random({ seed: 1, runs: 5000 }),
      new Pct({ seed: 1, runs: 5000 }),
    ]
    for (const strategy of strategies) {
      const { failure } = explore(scenario, strategy)
      assert.equal(failure?.message, 'one was lost', strategy.name)
      assert.equal(failure.schedule, '0 i0 0*4', 'and shortened to the same')
    }
  })

  test('comes where nothing shared is touched, if that is called a boundary', () => {
    let inside = false
    let met = false
    const program = (boundary: boolean): Program =>
      function* (bus) {
        yield bus.load(0)
        inside = true
        if (boundary) yield bus.boundary()
        inside = false
      }
    const scenario = (boundary: boolean): Scenario => ({
      name: 'boundary',
      words: 1,
      interruptible: [0],
      setup: () => ({
        cpus: [program(boundary)],
        interrupt: () =>
          function* (bus) {
            met ||= inside
            yield bus.load(0)
          },
      }),
    })
    explore(scenario(false), new Exhaustive())
    assert.equal(met, false)
    explore(scenario(true), new Exhaustive())
    assert.equal(met, true)
  })

  test('lets a wait go on that was not notified, and lets one end that was', () => {
    const results: number[] = []
    const waits: Program = function* (bus) {
      results.push(yield bus.wait(0, 0))
    }
    const scenario = (notifies: boolean): Scenario => ({
      name: 'wait',
      words: 2,
      interruptible: [0],
      setup: () => ({
        cpus: [
          waits,
          function* (bus) {
            yield bus.load(1)
            yield bus.store(0, 1)
            if (notifies) yield bus.notify(0)
          },
        ],
        interrupt: () =>
          function* (bus) {
            yield bus.load(1)
          },
      }),
    })
    assert.equal(explore(scenario(true), new Exhaustive()).failure, undefined)
    assert.deepEqual([...new Set(results)].toSorted(), [WAIT_RESULT.ok, WAIT_RESULT.notEqual])
    assert.equal(explore(scenario(false), new Exhaustive()).failure?.kind, 'lost wake-up')
    assert.equal(replay(scenario(true), '0 i0 1*3 0'), undefined)
    assert.equal(results.at(-1), WAIT_RESULT.ok, 'notified while it was interrupted')
  })

  test('ends a pause: what it has done may be what the loop looks for', () => {
    let done = false
    const program: Program = function* (bus) {
      done = false
      while (!done) yield bus.pause()
    }
    const scenario: Scenario = {
      name: 'spins',
      words: 1,
      interruptible: [0],
      setup: () => ({
        cpus: [
          program,
          function* (bus) {
            yield bus.load(0)
          },
        ],
        interrupt: () =>
          function* (bus) {
            yield bus.load(0)
            done = true
          },
      }),
    }
    assert.equal(replay(scenario, '0 i0 0 1'), undefined)
    assert.equal(replay(scenario, '0 1')?.kind, 'deadlock', 'without it the loop never ends')
  })
})

describe('time', () => {
  const looksAtClock: Program = function* (bus) {
    let turns = 0
    while ((yield bus.load(0)) === 0) {
      if ((yield bus.pause(true)) === WAIT_RESULT.timedOut) break
      turns++
    }
    yield bus.store(1, turns + 1)
  }
  const writes: Program = function* (bus) {
    yield bus.store(0, 1)
  }
  const ends = (more: Partial<Scenario>): string[] => {
    const found = new Set<string>()
    explore(
      {
        name: 'clock',
        words: 2,
        setup: (memory) => ({
          cpus: [looksAtClock, writes],
          atEnd: () => void found.add(`${memory[0]} ${memory[1]}`),
        }),
        ...more,
      },
      new Exhaustive(),
    )
    return [...found].toSorted()
  }

  test('passes when nobody else can go on, or earlier where that is allowed', () => {
    assert.deepEqual(ends({}), ['1 1', '1 2'])
    const kinds = new Set<string>()
    const scenario: Scenario = {
      name: 'early',
      words: 2,
      earlyTimeouts: 1,
      setup: (memory) => ({
        cpus: [looksAtClock, writes],
        invariant: () => {
          kinds.add(`${memory[0]} ${memory[1]}`)
          return undefined
        },
      }),
    }
    explore(scenario, new Exhaustive())
    assert.ok(kinds.has('0 1'), 'it gave up before the other had written')
  })
})

test('what is found by chance is made short: no more changes of CPU than it takes', () => {
  const scenario = mutex(3, 2, 'takes 1 after sleeping')
  const changes = (line: string): number => line.split(' ').length
  const best = [0, 1, 2, 3]
    .map((preemptions) => explore(scenario, new Exhaustive({ preemptions })).failure)
    .find((failure) => failure !== undefined)!
  const found = explore(scenario, new Random({ seed: 3, runs: 5000 })).failure!
  assert.ok(
    changes(found.schedule) <= changes(best.schedule) + 2,
    `${found.schedule} beside ${best.schedule}`,
  )
})
