/** Waits on the event loop: each ends once, and one timer serves all their deadlines. */

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { describe, test } from 'node:test'
import {
  SuspendedWaits,
  type SuspendedWait,
  type WaitLimits,
} from '../../src/kernel/suspended-wait.ts'
import { nodePlatform } from '../../src/platform/node.ts'
import { HandClock } from '../support/kernel-clock.ts'

/** A wait under observation: how its promise settled, each time anybody was told. */
interface Watched {
  readonly wait: SuspendedWait
  /** `resolved`, or what it was rejected with. */
  readonly settled: unknown[]
  /** `timeout`, `abort` and `end`, as they were called. */
  readonly calls: string[]
}

/** The waits of one thread whose clock is moved by hand. */
class WaitsBench {
  readonly clock = new HandClock()
  /** How many were told to have ended. */
  deleted = 0
  readonly waits = new SuspendedWaits(
    this.clock.drive(nodePlatform(new URL('file:///no-thread.js'))),
    () => void this.deleted++,
  )

  /** Starts a wait until `at`; its timeout error is `late` and the moment. */
  add(at: number, condition?: () => boolean, more: Partial<WaitLimits> = {}): Watched {
    const calls: string[] = []
    const settled: unknown[] = []
    const onTimeout = (): unknown => {
      calls.push('timeout')
      return `late ${at}`
    }
    const onAbort = (): void => void calls.push('abort')
    const wait = this.waits.add({ at, onTimeout, onAbort, ...more }, condition)
    wait.onEnd = () => void calls.push('end')
    wait.promise.then(
      () => settled.push('resolved'),
      (error: unknown) => settled.push(error),
    )
    return { wait, settled, calls }
  }
}

/** Lets promises that are settled say so. */
async function microtasks(): Promise<void> {
  for (let i = 0; i < 5; i++) await Promise.resolve()
}

describe('the timer of suspended waits', () => {
  test('one serves many waits, and is set for the earliest', () => {
    const { clock, waits } = new WaitsBench()
    for (const at of [50, 60, 70, 80]) {
      waits.add({ at, onTimeout: () => undefined }, undefined)
    }
    assert.deepEqual(clock.pending, [50])
    assert.equal(clock.started, 1)
  })

  test('it is set anew when an earlier deadline comes, and the old one is cancelled', () => {
    const bench = new WaitsBench()
    bench.add(50)
    bench.add(20)
    bench.add(20)
    bench.add(30)
    assert.deepEqual(bench.clock.pending, [20])
    assert.equal(bench.clock.started, 2)
  })

  test('a wait without a deadline needs none', () => {
    const bench = new WaitsBench()
    bench.add(Infinity)
    assert.deepEqual(bench.clock.pending, [])
  })

  test('a deadline between two milliseconds is not fired at early', () => {
    const bench = new WaitsBench()
    bench.clock.moveTo(0.25)
    bench.add(10.5)
    const [at] = bench.clock.pending
    assert.ok(at! >= 10.5 && at! < 11.5, `set for ${at}`)
  })

  test('a deadline that has passed already is fired at once', async () => {
    const bench = new WaitsBench()
    bench.clock.moveTo(10)
    const { settled } = bench.add(5)
    assert.deepEqual(bench.clock.pending, [10])
    bench.clock.moveTo(10)
    await microtasks()
    assert.deepEqual(settled, ['late 5'])
  })

  test('waits that have ended leave nothing to fire', async () => {
    const bench = new WaitsBench()
    const ended = [10, 20, 30].map((at) => bench.add(at))
    for (const { wait } of ended) wait.resume()
    bench.clock.moveTo(1000)
    await microtasks()
    for (const { settled, calls } of ended) {
      assert.deepEqual(settled, ['resolved'])
      assert.deepEqual(calls, ['end'])
    }
    assert.deepEqual(bench.clock.pending, [], 'the timer was not set again')
    assert.equal(bench.clock.started, 1)
  })

  test('after it found nothing it serves those that come later', async () => {
    const bench = new WaitsBench()
    bench.add(10).wait.resume()
    bench.clock.moveTo(15)
    const { settled } = bench.add(40)
    assert.deepEqual(bench.clock.pending, [40])
    bench.clock.moveTo(40)
    await microtasks()
    assert.deepEqual(settled, ['late 40'])
  })

  test('after the earliest has ended it goes on to the next', async () => {
    const bench = new WaitsBench()
    bench.add(10).wait.resume()
    const { settled } = bench.add(40, () => false)
    bench.clock.moveTo(39)
    await microtasks()
    assert.deepEqual(settled, [])
    bench.clock.moveTo(40)
    await microtasks()
    assert.deepEqual(settled, ['late 40'])
  })
})

describe('the deadline of a suspended wait', () => {
  test('it rejects those that are due with their error, once; the others stay', async () => {
    const bench = new WaitsBench()
    const due = [bench.add(10), bench.add(10, () => false), bench.add(9)]
    const others = [bench.add(11), bench.add(30, () => false), bench.add(Infinity)]
    bench.clock.moveTo(9)
    await microtasks()
    assert.deepEqual(
      due.map(({ settled }) => settled),
      [[], [], ['late 9']],
    )
    bench.clock.moveTo(10)
    await microtasks()
    assert.deepEqual(
      due.map(({ settled }) => settled),
      [['late 10'], ['late 10'], ['late 9']],
    )
    for (const { wait, settled } of others) {
      assert.equal(wait.isOver, false)
      assert.deepEqual(settled, [])
    }
    assert.deepEqual(bench.clock.pending, [11])
    bench.clock.moveTo(1000)
    await microtasks()
    for (const { wait, settled, calls } of due) {
      assert.equal(wait.isOver, true)
      assert.equal(settled.length, 1)
      assert.deepEqual(calls, ['timeout', 'end'])
    }
    assert.deepEqual(
      others.map(({ settled }) => settled),
      [['late 11'], ['late 30'], []],
    )
    assert.equal(bench.deleted, 5)
  })

  test('one that ends another with it: that one is not late any more', async () => {
    const bench = new WaitsBench()
    const second = bench.add(10)
    const first = bench.add(10)
    let ends = 0
    // Whichever is first at the deadline ends the other well.
    for (const [{ wait }, other] of [
      [first, second],
      [second, first],
    ] as const) {
      wait.onEnd = () => {
        ends++
        other.wait.resume()
      }
    }
    bench.clock.moveTo(10)
    await microtasks()
    assert.deepEqual([...first.settled, ...second.settled].sort(), ['late 10', 'resolved'])
    assert.equal(ends, 2)
    assert.equal(bench.deleted, 2)
  })
})

describe('the signal of a suspended wait', () => {
  test('it rejects with the reason, tells, and is listened to no more', async () => {
    const bench = new WaitsBench()
    const controller = new AbortController()
    const { signal } = controller
    const { settled, calls } = bench.add(10, undefined, { signal })
    assert.equal(getEventListeners(signal, 'abort').length, 1)
    controller.abort('no more')
    assert.equal(getEventListeners(signal, 'abort').length, 0)
    bench.clock.moveTo(10)
    await microtasks()
    assert.deepEqual(settled, ['no more'])
    assert.deepEqual(calls, ['end', 'abort'])
    assert.equal(bench.deleted, 1)
  })

  test('it ends every wait that has it, and no other', async () => {
    const bench = new WaitsBench()
    const controller = new AbortController()
    const { signal } = controller
    const mine = [1, 2, 3].map(() => bench.add(Infinity, undefined, { signal }))
    const other = bench.add(Infinity, undefined, { signal: new AbortController().signal })
    controller.abort('all')
    await microtasks()
    for (const { settled } of mine) assert.deepEqual(settled, ['all'])
    assert.deepEqual(other.settled, [])
  })

  for (const [how, end] of [
    ['resumed', (_: WaitsBench, { wait }: Watched) => wait.resume()],
    ['late', ({ clock }: WaitsBench) => clock.moveTo(10)],
    ['failed', (_: WaitsBench, { wait }: Watched) => void wait.fail('broken')],
  ] as const) {
    test(`a wait that is ${how} listens no more, and an abort has no effect then`, async () => {
      const bench = new WaitsBench()
      const controller = new AbortController()
      const watched = bench.add(10, undefined, { signal: controller.signal })
      end(bench, watched)
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
      controller.abort('too late')
      await microtasks()
      assert.equal(watched.settled.length, 1)
      assert.ok(!watched.settled.includes('too late'))
      assert.ok(!watched.calls.includes('abort'))
    })
  }
})

describe('the end of a suspended wait', () => {
  test('whatever comes after it has no effect', async () => {
    const bench = new WaitsBench()
    const { wait, settled, calls } = bench.add(10)
    wait.resume()
    wait.resume()
    assert.equal(wait.fail('too late'), false)
    bench.clock.moveTo(10)
    bench.waits.fail('too late')
    await microtasks()
    assert.deepEqual(settled, ['resolved'])
    assert.deepEqual(calls, ['end'])
    assert.equal(bench.deleted, 1)
  })

  test('failed, it stays failed', async () => {
    const bench = new WaitsBench()
    const { wait, settled, calls } = bench.add(10)
    assert.equal(wait.fail('broken'), true)
    wait.resume()
    await microtasks()
    assert.deepEqual(settled, ['broken'])
    assert.deepEqual(calls, ['end'])
  })

  test('it is told of when it is over, and before the promise settles', async () => {
    const bench = new WaitsBench()
    const { wait, settled } = bench.add(10)
    const seen: unknown[] = []
    wait.onEnd = () => void seen.push(wait.isOver, settled.length)
    wait.resume()
    await microtasks()
    assert.deepEqual(seen, [true, 0])
    assert.deepEqual(settled, ['resolved'])
  })

  test('a failure of all ends each of them once', async () => {
    const bench = new WaitsBench()
    const all = [bench.add(10), bench.add(20, () => false), bench.add(Infinity)]
    // The end of one may end another of the same kind.
    const [last, first] = [bench.add(Infinity), bench.add(Infinity)]
    first.wait.onEnd = () => last.wait.resume()
    last.wait.onEnd = () => first.wait.resume()
    bench.waits.fail('gone')
    bench.clock.moveTo(1000)
    await microtasks()
    for (const { settled, calls } of all) {
      assert.deepEqual(settled, ['gone'])
      assert.deepEqual(calls, ['end'])
    }
    assert.equal(first.settled.length + last.settled.length, 2)
    assert.equal(bench.deleted, 5)
  })
})

describe('a recheck of suspended waits', () => {
  test('it resumes those whose condition holds, and only those', async () => {
    const bench = new WaitsBench()
    const is = { first: false, second: false }
    const first = bench.add(Infinity, () => is.first)
    const second = bench.add(Infinity, () => is.second)
    const plain = bench.add(Infinity)
    const look = (condition: () => boolean): boolean => condition()
    bench.waits.recheck(look)
    await microtasks()
    assert.deepEqual([first.settled, second.settled], [[], []])
    is.second = true
    bench.waits.recheck(look)
    bench.waits.recheck(look)
    await microtasks()
    assert.deepEqual([first.settled, second.settled, plain.settled], [[], ['resolved'], []])
    assert.deepEqual(second.calls, ['end'])
    is.first = true
    bench.waits.recheck(look)
    await microtasks()
    assert.deepEqual([first.settled, plain.settled], [['resolved'], []])
  })

  test('the caller decides what holds, and is asked about pending waits only', () => {
    const bench = new WaitsBench()
    const [left, ended] = [() => false, () => false]
    const pending = bench.add(Infinity, left)
    bench.add(Infinity, ended).wait.resume()
    const asked: unknown[] = []
    bench.waits.recheck((condition) => asked.push(condition) > 0)
    assert.deepEqual(asked, [left])
    assert.equal(pending.wait.isOver, true, 'the caller said that it holds')
  })
})
