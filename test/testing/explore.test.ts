/** The explorer finds what is wrong, finds nothing where nothing is, and leaves nothing out. */

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
  type Strategy,
} from '../../src/testing.ts'
import { collecting, EverySchedule } from '../support/testing-every.ts'
import { mutex, type Mistake } from '../support/testing-mutex.ts'

const operation = fc.tuple(
  fc.constantFrom<keyof Bus>('load', 'store', 'add', 'exchange', 'compareExchange', 'or', 'and'),
  fc.nat(1),
  fc.nat(2),
)

describe('nothing is left out', () => {
  test('every end that any schedule has is seen, however much is passed over', () => {
    const programs = fc.array(fc.array(operation, { maxLength: 3 }), { minLength: 2, maxLength: 3 })
    fc.assert(
      fc.property(programs, (operations) => {
        const all = new Set<string>()
        const seen = new Set<string>()
        const every = explore(collecting(operations, all), new EverySchedule())
        const clever = explore(collecting(operations, seen), new Exhaustive())
        assert.ok(clever.exhausted && clever.runs <= every.runs)
        assert.deepEqual([...seen].toSorted(), [...all].toSorted())
      }),
      { numRuns: 150 },
    )
  })

  test('within a bound of preemptions, too: as many as it takes are enough', () => {
    const operations = [
      [['add', 0, 1] as const, ['add', 1, 1] as const],
      [['load', 0, 0] as const, ['load', 1, 0] as const],
    ].map((each) =>
      each.map(([what, at, value]) => [what, at, value] as [keyof Bus, number, number]),
    )
    const ends = [0, 1, 2].map((preemptions) => {
      const seen = new Set<string>()
      explore(collecting(operations, seen), new Exhaustive({ preemptions }))
      return seen.size
    })
    // Before and after; and either one between the two steps of the other, which takes a preemption.
    assert.deepEqual(ends, [2, 4, 4])
  })

  test('stores are seen by all in one order', () => {
    const ends = new Set<string>()
    const programs: [keyof Bus, number, number][][] = [
      [
        ['store', 0, 1],
        ['load', 1, 0],
      ],
      [
        ['store', 1, 1],
        ['load', 0, 0],
      ],
    ]
    explore(collecting(programs, ends), new Exhaustive())
    const read = [...ends].map((end) =>
      JSON.parse(end)[1]
        .map((each: number[]) => each[1])
        .join(''),
    )
    assert.deepEqual(read.toSorted(), ['01', '10', '11'])
  })
})

describe('a mutex on a futex', () => {
  test('that is right is right in every schedule', () => {
    for (const [cpus, rounds] of [
      [2, 2],
      [3, 1],
    ] as const) {
      const { failure, exhausted } = explore(mutex(cpus, rounds, 'none'), new Exhaustive())
      assert.equal(failure, undefined)
      assert.equal(exhausted, true)
    }
  })

  const faults: readonly [Mistake, string][] = [
    ['takes 1 after sleeping', 'lost wake-up'],
    ['looks and then takes', 'invariant'],
    ['wakes nobody', 'lost wake-up'],
  ]
  for (const [mistake, kind] of faults) {
    const strategies: readonly Strategy[] = [
      new Exhaustive({ preemptions: 2 }),
      new Exhaustive(),
      new Random({ seed: 1, runs: 5000 }),
      new Pct({ seed: 1, runs: 5000 }),
    ]
    for (const strategy of strategies) {
      test(`that ${mistake} is found out: ${strategy.name}, ${strategy.describe()}`, () => {
        const scenario = mutex(3, 1, mistake)
        const { failure } = explore(scenario, strategy)
        assert.equal(failure?.kind, kind)
        const again = replay(scenario, failure.schedule)
        assert.deepEqual(again, failure, 'and its line runs it again')
      })
    }
  }

  test('that forgets the third is right with two', () => {
    const { failure, exhausted } = explore(mutex(2, 2, 'takes 1 after sleeping'), new Exhaustive())
    assert.equal(failure, undefined)
    assert.equal(exhausted, true)
  })

  test('is shown as a table', () => {
    const scenario = mutex(2, 1, 'wakes nobody')
    const { failure } = explore(scenario, new Exhaustive({ preemptions: 1 }))
    assert.deepEqual(formatFailure(scenario, failure!).split('\n'), [
      'mutex, 2 CPUs, mistake: wakes nobody: lost wake-up: CPU 1 waits while lock is 2, and it is 0',
      ' step  CPU 0                CPU 1',
      '    1  lock 0 -> 1',
      '    2  inside += 1, was 0',
      '    3  inside += -1, was 1',
      '    4                       lock 0 -> 1 fails, is 1',
      '    5                       lock 1 -> 2',
      '    6                       wait lock = 2',
      '    7  lock <-> 0, was 2',
      'replay: 0*3 1*3 0',
    ])
  })
})

/** A scenario of two words. */
function two(programs: readonly Program[], more: Partial<Scenario> = {}): Scenario {
  return { name: 'two', words: 2, setup: () => ({ cpus: programs }), ...more }
}

/** Takes two spin locks in an order, and gives them back. */
function holding(first: number, second: number): Program {
  return function* (bus) {
    for (const lock of [first, second]) {
      while ((yield bus.exchange(lock, 1)) !== 0) yield bus.pause()
    }
    yield bus.store(second, 0)
    yield bus.store(first, 0)
  }
}

describe('verdicts', () => {
  test('two locks in two orders: a deadlock; in one order: none', () => {
    const wrong = explore(two([holding(0, 1), holding(1, 0)]), new Exhaustive())
    assert.equal(wrong.failure?.kind, 'deadlock')
    assert.match(wrong.failure.message, /CPU 0 spins; CPU 1 spins/)
    const right = explore(two([holding(0, 1), holding(0, 1)]), new Exhaustive())
    assert.equal(right.failure, undefined)
  })

  test('a loop that never ends and never pauses: a livelock, after so many accesses', () => {
    const program: Program = function* (bus) {
      while ((yield bus.load(0)) === 0);
    }
    const { failure } = explore(two([program], { stepsMax: 100 }), new Exhaustive())
    assert.equal(failure?.kind, 'livelock')
    assert.match(failure.message, /100 accesses/)
  })

  test('what is written between a look and the pause after it ends the pause', () => {
    const waits: Program = function* (bus) {
      while ((yield bus.load(0)) === 0) yield bus.pause()
    }
    const writes: Program = function* (bus) {
      yield bus.store(0, 1)
    }
    const { failure, exhausted } = explore(two([waits, writes]), new Exhaustive())
    assert.equal(failure, undefined)
    assert.equal(exhausted, true)
  })

  test('a timed wait ends when nobody else can go on, and not before', () => {
    const results: number[] = []
    const program: Program = function* (bus) {
      results.push(yield bus.wait(0, 0, true))
      yield bus.store(1, 1)
    }
    const other: Program = function* (bus) {
      yield bus.load(1)
      yield bus.load(1)
    }
    const notices: Program = function* (bus) {
      yield bus.notify(0)
    }
    explore(two([program, other]), new Exhaustive())
    assert.ok(results.every((result) => result === WAIT_RESULT.timedOut))
    results.length = 0
    explore(two([program, notices]), new Exhaustive())
    assert.deepEqual([...new Set(results)].toSorted(), [WAIT_RESULT.ok, WAIT_RESULT.timedOut])
  })

  test('an end that the books do not allow, and a program that throws', () => {
    const program: Program = function* (bus) {
      yield bus.add(0, 1)
    }
    const books = explore(
      {
        name: 'books',
        words: 1,
        setup: () => ({ cpus: [program], atEnd: () => 'one is missing' }),
      },
      new Exhaustive(),
    )
    assert.deepEqual([books.failure?.kind, books.failure?.message], ['books', 'one is missing'])
    const throws: Program = function* (bus) {
      if ((yield bus.load(0)) === 0) throw new RangeError('not like this')
    }
    const error = explore(two([throws]), new Exhaustive()).failure
    assert.deepEqual([error?.kind, error?.message], ['error', 'CPU 0 threw: not like this'])
  })

  test('who dies with a lock keeps it for ever, and the explorer tells when', () => {
    const { failure } = explore(
      two([holding(0, 1), holding(0, 1)], { mortal: [0] }),
      new Exhaustive(),
    )
    assert.equal(failure?.kind, 'deadlock')
    assert.equal(failure.events.filter(({ kind }) => kind === 'death').length, 1)
    const none = explore(
      two([holding(0, 1), holding(0, 1)], { mortal: [0] }),
      new Exhaustive({ deaths: 0 }),
    )
    assert.equal(none.failure, undefined)
  })
})

describe('a schedule as a line', () => {
  test('that does not fit, or is none, says so', () => {
    const scenario = mutex(2, 1, 'none')
    assert.throws(() => replay(scenario, '0*99'), { code: 'IPI_INVALID_ARGUMENT' })
    assert.throws(() => replay(scenario, '0*3 x'), /"x" is no part of a schedule/)
  })

  test('the same seed makes the same schedules, another one others', () => {
    const lines = [1, 1, 2].map((seed) => {
      const { failure } = explore(
        mutex(3, 2, 'looks and then takes'),
        new Random({ seed, runs: 500 }),
      )
      return failure?.schedule
    })
    assert.equal(lines[0], lines[1])
    assert.notEqual(lines[0], lines[2])
  })

  test('an exploration ends with its time, and tells on the way', () => {
    let told = 0
    const { exhausted, elapsedMs } = explore(mutex(3, 2, 'none'), new Exhaustive(), {
      budgetMs: 1500,
      onProgress: () => told++,
    })
    assert.equal(exhausted, false)
    assert.ok(elapsedMs >= 1500 && told >= 1)
  })
})
