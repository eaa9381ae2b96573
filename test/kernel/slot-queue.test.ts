/** Calls that wait for request slots: each has its turn, in order, and none is forgotten. */

import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, test } from 'node:test'
import type { CallOptions } from '../../src/kernel/call.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { CALL_DRIVERS, KernelBench, type BenchOptions } from '../support/kernel-bench.ts'
import { HandClock } from '../support/kernel-clock.ts'
import { spyAfter } from '../support/kernel-spies.ts'

/** CPU 0 calls the others, with as many slots as there are CPUs unless a test wants more. */
class SlotsBench extends KernelBench {
  /** What each CPU was called with, in order. */
  readonly runs: unknown[][] = []
  /** What settled, in order: the call's name, or its name and how it failed. */
  readonly settled: unknown[] = []
  readonly caller: Kernel

  constructor(cpus: number, options: BenchOptions = {}) {
    super(cpus, { slotCount: cpus, ...options })
    this.caller = this.kernel(0)
    this.share('run', ({ cpu }) => {
      const runs: unknown[] = (this.runs[cpu.id] = [])
      return (name: unknown) => {
        runs.push(name)
        return name
      }
    })
  }

  /** Joins the caller to the others, for values that shared memory cannot hold. */
  connect(): void {
    for (const { cpu, values } of this.kernels.slice(1)) {
      const [near, far] = this.caller.cpu.platform.createChannel()
      this.caller.values.setPort(cpu.id, near)
      values.setPort(0, far)
    }
  }

  get freeCount(): number {
    return this.caller.book.freeCount
  }

  /** Calls one CPU; the name of the call is what it is called with. */
  call(cpu: number, name: string, options?: CallOptions, info: unknown = name): Promise<unknown> {
    return this.#note(name, this.caller.calls.single(cpu, 'run', info, options))
  }

  /** Calls all other CPUs. */
  callAll(name: string, options?: CallOptions): Promise<unknown> {
    return this.#note(name, this.caller.calls.all('run', name, options))
  }

  #note(name: string, promise: Promise<unknown>): Promise<unknown> {
    return promise.then(
      () => this.settled.push(name),
      (error: unknown) => {
        const how = (error as { code?: string }).code ?? String(error)
        this.settled.push(`${name}: ${how}`)
      },
    )
  }

  /** One CPU answers its calls, and the caller takes the answers: slots come back. */
  answer(cpu: number): void {
    this.poll(cpu)
    this.poll(0)
  }

  /** While CPU 0 blocks, a CPU serves. */
  serveMeanwhile(cpu: number): void {
    spyAfter(this.caller.cpu.core, 'poll', () => this.poll(cpu))
  }
}

/** `name 0`, `name 1`, … */
function names(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${name} ${i}`)
}

for (const callDriver of CALL_DRIVERS) {
  describe(`more calls than slots over ${callDriver}`, () => {
    test('all settle, each exactly once, and all slots are free', async () => {
      const bench = new SlotsBench(2, { callDriver })
      const expected = names('call', 40)
      await bench.drive(Promise.all(expected.map((name) => bench.call(1, name))))
      assert.deepEqual(bench.runs[1]?.toSorted(), expected.toSorted())
      assert.deepEqual(bench.settled.toSorted(), expected.toSorted())
      assert.equal(bench.freeCount, 2)
    })

    test('they run and settle in the order in which they were made', async () => {
      const bench = new SlotsBench(2, { callDriver })
      const expected = names('call', 40)
      await bench.drive(Promise.all(expected.map((name) => bench.call(1, name))))
      assert.equal(bench.runs[1]?.join(), expected.join())
      assert.equal(bench.settled.join(), expected.join())
    })
  })
}

describe('the queue for slots', () => {
  test('it keeps its order when it has become very long', async () => {
    const bench = new SlotsBench(2, { slotCount: 32 })
    const expected = names('call', 2500)
    await bench.drive(Promise.all(expected.map((name) => bench.call(1, name))))
    assert.deepEqual(bench.settled, expected)
    assert.equal(bench.freeCount, 32)
  })

  test('calls to one and calls to all take turns', async () => {
    const bench = new SlotsBench(4)
    const expected = names('call', 30)
    const targetOf = (i: number): number => i % 4
    const promises = expected.map((name, i) =>
      targetOf(i) === 0 ? bench.callAll(name) : bench.call(targetOf(i), name),
    )
    await bench.drive(Promise.all(promises))
    for (const cpu of [1, 2, 3]) {
      const asked = expected.filter((_, i) => targetOf(i) === 0 || targetOf(i) === cpu)
      assert.deepEqual(bench.runs[cpu], asked)
    }
    assert.deepEqual(bench.settled.toSorted(), expected.toSorted())
    assert.equal(bench.freeCount, 4)
  })

  test('as many go on as slots came back', async () => {
    const bench = new SlotsBench(3)
    const all = [bench.call(1, 'a'), bench.call(1, 'b'), bench.call(2, 'c')]
    all.push(...names('waiter', 4).map((name) => bench.call(2, name)))
    bench.answer(1)
    await nextTurn()
    assert.equal(bench.freeCount, 0)
    bench.poll(2)
    assert.deepEqual(bench.runs[2], ['c', 'waiter 0', 'waiter 1'])
    await bench.drive(Promise.all(all))
    assert.equal(bench.freeCount, 3)
  })

  test('a call for few slots does not overtake one that waits for many', async () => {
    const bench = new SlotsBench(3)
    const all = [bench.call(1, 'a'), bench.call(1, 'b'), bench.callAll('many')]
    assert.equal(bench.freeCount, 1)
    all.push(bench.call(2, 'few'))
    await nextTurn()
    assert.equal(bench.freeCount, 1, 'it waits, though there is a slot')
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs[2], ['many', 'few'])
    assert.equal(bench.freeCount, 3)
  })

  test('a new call does not take what a woken one was promised', async () => {
    const bench = new SlotsBench(2)
    const all = [bench.call(1, 'a'), bench.call(1, 'b'), bench.call(1, 'c'), bench.call(1, 'd')]
    await nextTurn()
    bench.answer(1)
    assert.equal(bench.freeCount, 2, 'they are free, and the woken ones have not had their turn')
    all.push(bench.call(1, 'new'))
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs[1], ['a', 'b', 'c', 'd', 'new'])
    assert.equal(bench.freeCount, 2)
  })
})

describe('a call that gives up while it waits for slots', () => {
  /** One slot is free, `big` waits for two, and behind it `next` waits for one. */
  function queued(bench: SlotsBench, options: CallOptions): Promise<unknown>[] {
    return [
      bench.call(1, 'a'),
      bench.call(1, 'b'),
      bench.callAll('big', options),
      bench.call(2, 'next'),
    ]
  }

  test('its signal aborts: it rejects with the reason, and the next goes on', async () => {
    const bench = new SlotsBench(3)
    const controller = new AbortController()
    const all = queued(bench, { signal: controller.signal })
    await nextTurn()
    assert.equal(bench.freeCount, 1)
    controller.abort('no more')
    await nextTurn()
    assert.deepEqual(bench.settled, ['big: no more'])
    assert.equal(bench.freeCount, 0, 'the next has taken the slot')
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs.slice(1), [['a', 'b'], ['next']])
    assert.equal(bench.settled.length, 4)
    assert.equal(bench.freeCount, 3)
  })

  test('its time passes: it says for what it waited, and the next goes on', async () => {
    const bench = new SlotsBench(3)
    const clock = new HandClock()
    clock.drive(bench.caller.cpu.platform)
    const all = queued(bench, { timeoutMs: 50 })
    await nextTurn()
    clock.moveTo(49)
    await nextTurn()
    assert.deepEqual(bench.settled, [])
    clock.moveTo(50)
    await nextTurn()
    assert.deepEqual(bench.settled, ['big: IPI_TIMEOUT'])
    assert.equal(bench.freeCount, 0, 'the next has taken the slot')
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs.slice(1), [['a', 'b'], ['next']])
    assert.equal(bench.freeCount, 3)
  })

  test('it was not the first: those before and behind it keep their turns', async () => {
    const bench = new SlotsBench(2)
    const controller = new AbortController()
    const { signal } = controller
    const all = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) =>
      bench.call(1, name, name === 'd' || name === 'e' ? { signal } : {}),
    )
    controller.abort('no more')
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs[1], ['a', 'b', 'c', 'f'])
    assert.deepEqual(bench.settled, ['d: no more', 'e: no more', 'a', 'b', 'c', 'f'])
    assert.equal(bench.freeCount, 2)
  })

  test('what it is called with cannot be cloned: its slot goes to the next', async () => {
    const bench = new SlotsBench(3)
    bench.connect()
    const all = [bench.call(1, 'a'), bench.call(1, 'b'), bench.call(2, 'c')]
    const notCloneable = (): number => 0
    all.push(bench.call(2, 'bad', {}, notCloneable), bench.call(2, 'next'))
    await nextTurn()
    bench.answer(2)
    await nextTurn()
    assert.deepEqual(bench.settled.toSorted(), ['bad: IPI_UNCLONEABLE', 'c'])
    bench.poll(2)
    assert.deepEqual(bench.runs[2], ['c', 'next'], 'CPU 1 has not answered, so it is that slot')
    await bench.drive(Promise.all(all))
    assert.equal(bench.freeCount, 3)
  })

  test('a call to many that cannot be cloned gives all its slots to the next', async () => {
    const bench = new SlotsBench(3)
    bench.connect()
    const all = [bench.call(1, 'a'), bench.call(1, 'b'), bench.call(2, 'c')]
    all.push(
      assert.rejects(
        bench.caller.calls.all('run', () => 0),
        { code: 'IPI_UNCLONEABLE' },
      ),
    )
    all.push(bench.callAll('next'))
    await nextTurn()
    bench.answer(1)
    await all[3]
    await nextTurn()
    bench.poll(1)
    assert.deepEqual(bench.runs[1], ['a', 'b', 'next'])
    await bench.drive(Promise.all(all))
    assert.equal(bench.freeCount, 3)
  })
})

describe('a blocking call while others wait for slots', () => {
  test('it takes free slots at once', async () => {
    const bench = new SlotsBench(3)
    const all = [bench.call(1, 'a'), bench.call(1, 'b'), bench.callAll('waiter')]
    await nextTurn()
    assert.equal(bench.freeCount, 1)
    bench.serveMeanwhile(2)
    assert.equal(bench.caller.calls.singleSync(2, 'run', 'blocking'), 'blocking')
    assert.deepEqual(bench.settled, [])
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs[2], ['blocking', 'waiter'])
    assert.equal(bench.freeCount, 3)
  })

  test('it waits for slots itself, when none is free', async () => {
    const bench = new SlotsBench(2)
    const all = ['a', 'b', 'c'].map((name) => bench.call(1, name))
    await nextTurn()
    bench.serveMeanwhile(1)
    assert.equal(bench.caller.calls.singleSync(1, 'run', 'blocking'), 'blocking')
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs[1], ['a', 'b', 'blocking', 'c'])
    assert.equal(bench.freeCount, 2)
  })

  test('it has one deadline, for the slot and for the answer', async () => {
    const bench = new SlotsBench(2)
    const all = ['a', 'b'].map((name) => bench.call(1, name))
    await nextTurn()
    let nowMs = 0
    // A little with each look at it, because a wait that spins looks at nothing else.
    Object.assign(bench.caller.cpu.platform, { now: () => (nowMs += 0.001) })
    let looks = 0
    bench.caller.waits.lookAround.push(() => {
      nowMs += 30
      if (++looks === 2) bench.answer(1)
    })
    assert.throws(() => bench.caller.calls.singleSync(1, 'run', 'late', { timeoutMs: 100 }), {
      code: 'IPI_TIMEOUT',
    })
    assert.equal(looks, 4, 'two until the slot was free, two for the answer')
    await bench.drive(Promise.all(all))
  })

  test('a signal that comes after the promise is heard, and the slot goes to the next', async () => {
    const bench = new SlotsBench(2)
    const controller = new AbortController()
    const all = [bench.call(1, 'a'), bench.call(1, 'b')]
    all.push(bench.call(1, 'c', { signal: controller.signal }), bench.call(1, 'd'))
    all.push(bench.call(1, 'e'))
    await nextTurn()
    bench.answer(1)
    controller.abort('changed my mind')
    await nextTurn()
    assert.ok(bench.settled.includes('c: changed my mind'))
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs[1], ['a', 'b', 'd', 'e'])
    assert.equal(bench.freeCount, 2)
  })

  test('a call of this CPU to itself takes no slot and waits for none', async () => {
    const bench = new SlotsBench(2)
    const all = ['a', 'b', 'c'].map((name) => bench.call(1, name))
    await bench.call(0, 'here', { timeoutMs: 20 })
    assert.deepEqual(bench.settled, ['here'])
    await bench.drive(Promise.all(all))
  })

  /** Takes a slot and does not give it back before CPU 1 has looked: the call is given up. */
  function rob(bench: SlotsBench): void {
    assert.throws(
      () => bench.caller.calls.singleSync(1, 'run', 'robber', { timeoutMs: 0 }),
      /for "run"/,
    )
  }

  for (const robberies of [1, 2]) {
    test(`it took ${robberies} of 2 promised slots: whom it robbed gets its turn`, async () => {
      const bench = new SlotsBench(2)
      const all = ['a', 'b', 'c', 'd', 'e'].map((name) => bench.call(1, name))
      await nextTurn()
      bench.answer(1)
      assert.equal(bench.freeCount, 2, 'promised to c and d, who have not had their turn')
      for (let i = 0; i < robberies; i++) rob(bench)
      await nextTurn()
      assert.equal(bench.freeCount, 0)
      await bench.drive(Promise.all(all))
      assert.deepEqual(bench.runs[1]?.toSorted(), ['a', 'b', 'c', 'd', 'e'])
      assert.deepEqual(bench.settled.toSorted(), ['a', 'b', 'c', 'd', 'e'])
      assert.equal(bench.freeCount, 2)
    })
  }

  test('it left too few for whom it robbed: nobody overtakes that one', async () => {
    const bench = new SlotsBench(3)
    const all = [bench.call(1, 'a'), bench.call(1, 'b'), bench.call(2, 'c')]
    all.push(bench.callAll('many'), bench.call(2, 'one'))
    await nextTurn()
    bench.answer(1)
    assert.equal(bench.freeCount, 2, 'promised to the call to many')
    rob(bench)
    await nextTurn()
    assert.equal(bench.freeCount, 1)
    bench.poll(2)
    assert.deepEqual(bench.runs[2], ['c'])
    await bench.drive(Promise.all(all))
    assert.deepEqual(bench.runs[2], ['c', 'many', 'one'])
    assert.equal(bench.freeCount, 3)
  })
})
