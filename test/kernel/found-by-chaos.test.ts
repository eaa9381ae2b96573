/** Faults that chaos on real threads found: each was there, and each is kept from coming back. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU, HEADER } from '../../src/hardware/layout.ts'
import type { SmpCallError } from '../../src/kernel/call.ts'
import { settleRequestsOf } from '../../src/kernel/death.ts'
import { RobustLock } from '../../src/kernel/robust-lock.ts'
import { KernelBench } from '../support/kernel-bench.ts'

/** Kernels that share `echo`. CPU 2 has the record of call_data, because CPU 3 does not look. */
function benchWithRecordTaken(): { bench: KernelBench; first: Promise<unknown> } {
  const bench = new KernelBench(4, { callDriver: 'callData', slotCount: 4 })
  bench.share('echo', () => (info: unknown) => info)
  return { bench, first: bench.kernel(2).calls.single(3, 'echo', 'first') }
}

async function failureOf(bench: KernelBench, call: Promise<unknown>): Promise<SmpCallError> {
  const error: unknown = await bench.drive(call).catch((reason: unknown) => reason)
  assert.equal((error as SmpCallError).code, 'IPI_CALL_FAILED')
  return error as SmpCallError
}

describe('call_data, and deaths while a call waits for the record', () => {
  test('who died and lives again is not waited for', async () => {
    const { bench, first } = benchWithRecordTaken()
    const second = bench.kernel(0).calls.many([1, 3], 'echo', 'second')
    bench.kill(1, 2)
    bench.revive(1)
    const failure = failureOf(bench, second)
    assert.equal(await bench.drive(first), 'first')
    const { results, errors } = await failure
    assert.deepEqual([...results], [[3, 'second']])
    assert.deepEqual([...errors.keys()], [1])
    assert.equal(await bench.drive(bench.kernel(0).calls.single(3, 'echo', 'third')), 'third')
    assert.equal(bench.memory.words[HEADER.callLock], 0)
  })

  test('the slot of one that died is not refused when it is another call’s already', async () => {
    const { bench, first } = benchWithRecordTaken()
    const { calls, book } = bench.kernel(0)
    const second = bench.drive(calls.many([1, 3], 'echo', 'second')).catch(() => undefined)
    bench.kill(1, 2)
    bench.poll(0)
    assert.equal(book.openCount, 1, 'the slot of the dead is free')
    const third = calls.many([2, 3], 'echo', 'third')
    await bench.drive(first)
    await second
    assert.deepEqual(
      [...(await bench.drive(third))],
      [
        [2, 'third'],
        [3, 'third'],
      ],
    )
  })

  test('a caller that gave up and died leaves no slot behind', async () => {
    const { bench, first } = benchWithRecordTaken()
    const controller = new AbortController()
    const second = bench.kernel(1).calls.single(3, 'echo', 0, { signal: controller.signal })
    controller.abort(new Error('given up'))
    await assert.rejects(second, { message: 'given up' })
    bench.kill(1, 0)
    assert.equal(bench.revive(1).book.freeCount, 4)
    await bench.drive(first)
  })
})

describe('slots and ends of threads', () => {
  test('one that dies while it reads its answers leaves none behind', async () => {
    const bench = new KernelBench(3, { slotCount: 4 })
    bench.share('echo', () => (info: unknown) => info)
    const { calls, book } = bench.kernel(2)
    const call = calls.many([0, 1], 'echo', 1)
    call.catch(() => undefined)
    bench.poll(0)
    bench.poll(1)
    book.onFreed = () => {
      throw new Error('the thread ends here')
    }
    assert.throws(() => bench.poll(2), { message: 'the thread ends here' })
    bench.kill(2, 0)
    assert.equal(bench.revive(2).book.freeCount, 4)
  })

  test('a target that dies while it is asked is settled once', async () => {
    const bench = new KernelBench(3, { slotCount: 4 })
    bench.share('echo', () => (info: unknown) => info)
    const { calls, driver, book } = bench.kernel(0)
    const submit = driver.submit.bind(driver)
    driver.submit = (batch) => {
      bench.kill(1, 2)
      // Nothing is taken between the first slot and the last word about it: not even this death.
      bench.poll(0)
      return submit(batch)
    }
    assert.deepEqual([...(await bench.drive(calls.many([1, 2], 'echo', 1)))], [[2, 1]])
    assert.equal(book.freeCount, 4)
  })

  test('a slot that a suspect was asked by is not used again before it is buried', () => {
    const bench = new KernelBench(3, { slotCount: 4 })
    bench.share('echo', () => (info: unknown) => info)
    const { book, functions, cpu } = bench.kernel(0)
    const record = functions.resolve('echo')
    const { slots } = book.fill([1], record, 'question', true, undefined)
    settleRequestsOf(bench.kernel(2).cpu, 1)
    assert.equal(book.isSettled(slots[0]!), true)
    const outcome = book.finish(slots[0]!, { record, settle: () => undefined })
    assert.equal(outcome.ok, false, 'its caller knows at once')
    assert.equal(book.freeCount, 3)
    bench.kill(1, 2)
    bench.poll(cpu.id)
    assert.equal(book.freeCount, 4)
  })

  test('a mask passes over one that has left, also if the value goes by port', async () => {
    const bench = new KernelBench(3)
    bench.share('echo', () => (info: unknown) => info)
    const [near, far] = bench.kernel(0).cpu.platform.createChannel()
    bench.kernel(0).values.setPort(2, near)
    bench.kernel(2).values.setPort(0, far)
    const large = 'x'.repeat(5000)
    const answers = await bench.drive(bench.kernel(0).calls.all('echo', large))
    assert.deepEqual([...answers], [[2, large]])
    near.close()
    far.close()
  })
})

describe('a thread that was buried and goes on for some instructions', () => {
  test("holds no lock that it takes then, and lets go of none that is somebody else's", () => {
    const bench = new KernelBench(3, {})
    const lockOf = (cpu: number): RobustLock =>
      new RobustLock(bench.kernel(cpu).cpu, HEADER.tlbLock)
    const [zombie, living] = [lockOf(2), lockOf(1)]
    bench.kill(2, 0)
    assert.equal(zombie.tryAcquire(), true)
    assert.equal(living.tryAcquire(), true, 'it is dead')
    assert.equal(living.holder, 1)
    zombie.release()
    assert.equal(living.holder, 1)
    living.release()
    assert.equal(zombie.tryAcquire(), true)
    bench.memory.words[bench.memory.cpuPage(2) + CPU.incarnation]!++
    const next = new RobustLock(bench.revive(2).cpu, HEADER.tlbLock)
    assert.equal(living.tryAcquire(), true, 'its number lives, and it does not')
    assert.equal(next.tryAcquire(), false)
    living.release()
    assert.equal(next.tryAcquire(), true)
    zombie.release()
    assert.equal(living.tryAcquire(), false, 'another life of its number holds it')
    next.release()
    assert.equal(bench.memory.words[HEADER.tlbLock], 0)
  })

  test('leaves no record behind with the lock', () => {
    const bench = new KernelBench(3, { callDriver: 'callData' })
    const { words } = bench.memory
    const lockOf = (cpu: number): RobustLock =>
      new RobustLock(bench.kernel(cpu).cpu, HEADER.callLock, HEADER.callData)
    const [zombie, living] = [lockOf(2), lockOf(1)]
    bench.kill(2, 0)
    assert.equal(zombie.tryAcquire(), true)
    words[HEADER.callData] = zombie.word
    assert.equal(living.tryAcquire(), true)
    assert.equal(words[HEADER.callData], 0)
    words[HEADER.callData] = living.word
    assert.equal(living.recover(2), false)
    assert.equal(words[HEADER.callData], living.word)
  })

  test('answers nobody: the slot that it was asked by has another user', async () => {
    const bench = new KernelBench(3, { slotCount: 3 })
    const { calls, functions } = bench.kernel(0)
    const taken: unknown[] = []
    bench.kernel(2).functions.register('f', (info) => void taken.push(info))
    let second: Promise<unknown> | undefined
    const { cpu } = bench.kernel(1)
    bench.kernel(1).functions.register('f', () => {
      // process.exit() in the function: the 'exit' hook, and then some instructions more.
      cpu.isBuried = true
      bench.kill(1, 0)
      bench.poll(0)
      second = calls.single(2, 'f', 'second')
      return 'of the dead'
    })
    functions.register('f', () => undefined)
    const first = calls.single(1, 'f', 'first').catch((error: unknown) => error)
    cpu.core.deliverInterrupts('safepoint')
    assert.equal(((await bench.drive(first)) as { code: string }).code, 'IPI_CPU_DIED')
    await bench.drive(second!)
    assert.deepEqual(taken, ['second'])
  })
})
