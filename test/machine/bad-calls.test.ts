/**
 * Calls, vectors and masks that are wrong: each fails with its own code, the promise forms by
 * rejecting, and afterwards nothing has changed. The list of codes is complete.
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  boot,
  CpuMask,
  IPI_ERROR_CODES,
  sharedFunction,
  SmpCallError,
  type Callable,
  type CallOptions,
  type IpiErrorCode,
  type Machine,
} from '../../src/index.ts'
import {
  asyncOne,
  hereOnly,
  returnsFunction,
  returnsPromise,
  returnsThenable,
  waitIn,
  WAITS,
  type Place,
} from '../support/machine-bad-tasks.ts'
import { Board, settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { CODES_BY_FILE, Provoked } from '../support/machine-codes.ts'
import { echo, runTask, setBoard, whoAmI } from '../support/machine-tasks.ts'

const entry = new URL('../support/machine-bad-tasks.js', import.meta.url)
const provoked = new Provoked()
const board = new Board()
let machine: Machine

before(async () => {
  machine = await boot({ cpus: 3, maxCpus: 5, entry })
  await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
})
after(() => machine.close())

type Fn = Callable<never, unknown>

/** Every way to call CPU 1, alone or with others. */
function everyWay(fn: Fn, info?: unknown, options?: CallOptions) {
  const f = fn as Callable<unknown, unknown>
  return {
    promises: [
      () => machine.smpCallFunctionSingle(1, f, info, options),
      () => machine.smpCallFunctionAny([1, 2], f, info, options),
      () => machine.smpCallFunction(f, info, options),
      () => machine.smpCallFunctionMany([1], f, info, options),
      () => machine.onEachCpu(f, info, options),
    ],
    blocking: [
      () => machine.smpCallFunctionSingleSync(1, f, info, options),
      () => machine.smpCallFunctionAnySync([1, 2], f, info, options),
      () => machine.smpCallFunctionSync(f, info, options),
      () => machine.smpCallFunctionManySync([1], f, info, options),
      () => machine.onEachCpuSync(f, info, options),
    ],
  }
}

/** Every way fails with a code before anything is sent. */
async function expectRefused(code: IpiErrorCode, fn: Fn, info?: unknown, options?: CallOptions) {
  const before = board.get(WORD.counted)
  const { promises, blocking } = everyWay(fn, info, options)
  for (const call of promises) await provoked.rejects(code, settled(call(), 'a refused call'))
  for (const call of blocking) provoked.throws(code, call)
  assert.equal(board.get(WORD.counted), before, 'nothing ran')
  await expectBalancedBooks(machine)
}

/** Every way fails with a code on the other CPU; several are told of each one. */
async function expectFailure(code: IpiErrorCode, fn: Fn): Promise<void> {
  const { promises, blocking } = everyWay(fn)
  const check = (error: unknown): true => {
    if (!(error instanceof SmpCallError)) return provoked.is(code, error)
    const first = error.errors.get(1) as { code: unknown; cpu: unknown }
    assert.deepEqual({ code: first.code, cpu: first.cpu }, { code, cpu: 1 })
    assert.equal(error.cause, error.errors.values().next().value)
    return provoked.is('IPI_CALL_FAILED', error)
  }
  for (const call of promises) await assert.rejects(settled(call(), 'a failing call'), check)
  for (const call of blocking) assert.throws(call, check)
  await expectBalancedBooks(machine)
}

describe('a function that cannot be called', () => {
  test('the target does not know it', async () => {
    await expectFailure('IPI_UNKNOWN_FUNCTION', hereOnly as Fn)
    await expectFailure('IPI_UNKNOWN_FUNCTION', 'machine.nobodyKnowsThis')
    const started = machine.smpCallFunctionSingle(1, 'machine.nobody', 0, { wait: false })
    const error = await provoked.rejects('IPI_UNKNOWN_FUNCTION', started)
    assert.match(error.message, /CPU 1 knows no shared function "machine\.nobody".*import/s)
  })

  test('it is not shared', async () => {
    for (const fn of [() => 1, undefined, null, 5, '', {}]) {
      await expectRefused('IPI_UNKNOWN_FUNCTION', fn as Fn)
    }
  })

  test('it is asynchronous', async () => {
    await expectRefused('IPI_ASYNC_FUNCTION', asyncOne)
    // By name nobody can tell before it runs.
    await expectFailure('IPI_ASYNC_FUNCTION', 'machine.returnsPromise')
    await expectFailure('IPI_ASYNC_FUNCTION', returnsPromise)
    await expectFailure('IPI_ASYNC_FUNCTION', returnsThenable)
  })

  test('its name is taken, or it has none', () => {
    sharedFunction('machine.once', () => 1)
    provoked.throws('IPI_DUPLICATE_FUNCTION', () => sharedFunction('machine.once', () => 2))
    for (const name of ['', 5, undefined]) {
      provoked.throws('IPI_INVALID_ARGUMENT', () => sharedFunction(name as string, () => 1))
    }
    for (const fn of ['', 5, undefined]) {
      const share = (): unknown => sharedFunction('machine.other', fn as unknown as () => void)
      provoked.throws('IPI_INVALID_ARGUMENT', share)
    }
  })
})

describe('a value that cannot cross', () => {
  test('the argument', async () => {
    const getter = Object.defineProperty({}, 'x', {
      enumerable: true,
      get: () => {
        throw new Error('a getter that throws')
      },
    })
    const call = machine.smpCallFunctionSingle(1, echo, getter)
    await assert.rejects(settled(call, 'the call'), /a getter that throws|cannot be cloned/)
    for (const info of [
      () => 1,
      Symbol('s'),
      { deep: [() => 1] },
      new WeakMap(),
      'x'.repeat(2000),
    ]) {
      const value = typeof info === 'string' ? [info, Symbol('large')] : info
      await expectRefused('IPI_UNCLONEABLE', echo, value)
    }
  })

  test('the result', async () => {
    const error = await provoked.rejects(
      'IPI_UNCLONEABLE',
      machine.smpCallFunctionSingle(1, returnsFunction),
    )
    assert.match(error.message, /machine\.returnsFunction/)
    assert.throws(() => machine.smpCallFunctionSync(returnsFunction), SmpCallError)
    await expectBalancedBooks(machine)
    // Nobody asked for it: then it is no failure.
    const started = machine.smpCallFunctionSingle(1, returnsFunction, undefined, { wait: false })
    assert.equal(await settled(started, 'the start'), undefined)
  })

  test('a result that was too large is not mistaken for the next', async () => {
    for (const value of [
      'x'.repeat(5000),
      1,
      'y'.repeat(5000),
      2,
      new Map([[1, 'z'.repeat(5000)]]),
    ]) {
      assert.deepEqual(await machine.smpCallFunctionSingle(1, echo, value), value)
      provoked.throws('IPI_UNCLONEABLE', () => machine.smpCallFunctionSingleSync(1, echo, () => 1))
    }
  })
})

describe('a CPU that is not there', () => {
  test('no such number', async () => {
    for (const cpu of [-1, 5, 255, 1.5, Number.NaN, '1', undefined]) {
      const target = cpu as number
      await provoked.rejects('IPI_INVALID_CPU', machine.smpCallFunctionSingle(target, whoAmI))
      provoked.throws('IPI_INVALID_CPU', () => machine.smpCallFunctionSingleSync(target, whoAmI))
      provoked.throws('IPI_INVALID_CPU', () => machine.smpSendReschedule(target))
      provoked.throws('IPI_INVALID_CPU', () => machine.reschedTask(target))
    }
    for (const mask of [[5], [-1], [0, 1.5], [Number.NaN], ['1']] as number[][]) {
      await provoked.rejects('IPI_INVALID_CPU', machine.smpCallFunctionMany(mask, whoAmI))
      await provoked.rejects('IPI_INVALID_CPU', machine.smpCallFunctionAny(mask, whoAmI))
      provoked.throws('IPI_INVALID_CPU', () => machine.smpCallFunctionManySync(mask, whoAmI))
      provoked.throws('IPI_INVALID_CPU', () => machine.sendIpiMask(mask, 0x50))
    }
    for (const mask of [5, undefined, null]) {
      const cpus = mask as unknown as number[]
      await provoked.rejects('IPI_INVALID_ARGUMENT', machine.smpCallFunctionMany(cpus, whoAmI))
      provoked.throws('IPI_INVALID_ARGUMENT', () => machine.sendIpiMask(cpus, 0x50))
      provoked.throws('IPI_INVALID_ARGUMENT', () => CpuMask.from(cpus))
    }
  })

  test('not online', async () => {
    await provoked.rejects('IPI_CPU_OFFLINE', machine.smpCallFunctionSingle(3, whoAmI))
    provoked.throws('IPI_CPU_OFFLINE', () => machine.smpCallFunctionSingleSync(3, whoAmI))
    provoked.throws('IPI_CPU_OFFLINE', () => machine.sendIpiMask([1, 3], 0x50))
    provoked.throws('IPI_CPU_OFFLINE', () => machine.smpSendReschedule(3))
    provoked.throws('IPI_CPU_OFFLINE', () => machine.reschedTask(4))
    // A mask is narrowed to who is there, as the kernel does.
    assert.deepEqual(await machine.smpCallFunctionMany([1, 3], whoAmI), new Map([[1, 1]]))
    await expectBalancedBooks(machine)
  })

  test('nobody', async () => {
    const nobody = CpuMask.of()
    await provoked.rejects('IPI_NO_CPU', machine.smpCallFunctionAny(nobody, whoAmI))
    const error = await provoked.rejects('IPI_NO_CPU', machine.smpCallFunctionAny([3, 4], whoAmI))
    assert.match(error.message, /3-4.*0-2/)
    provoked.throws('IPI_NO_CPU', () => machine.smpCallFunctionAnySync([4], whoAmI))
    assert.deepEqual(await machine.smpCallFunctionMany(nobody, whoAmI), new Map())
    assert.deepEqual(machine.smpCallFunctionManySync([3], whoAmI), new Map())
    machine.sendIpiMask(nobody, 0x50)
    await expectBalancedBooks(machine)
  })
})

test('options that make no sense', async () => {
  for (const timeoutMs of [-1, Number.NaN, '5', null] as number[]) {
    await expectRefused('IPI_INVALID_ARGUMENT', whoAmI, undefined, { timeoutMs })
  }
  for (const signal of [{}, 5, 'abort', null] as unknown as AbortSignal[]) {
    await provoked.rejects(
      'IPI_INVALID_ARGUMENT',
      machine.smpCallFunctionSingle(1, whoAmI, undefined, { signal }),
    )
  }
  for (const ms of [-1, Number.NaN, '5', null] as number[]) {
    provoked.throws('IPI_INVALID_ARGUMENT', () => machine.cpu.halt(ms))
  }
  await expectBalancedBooks(machine)
})

describe('a vector that may not be used', () => {
  test('to send', () => {
    for (const vector of [15, 0, -1, 256, 1.5, Number.NaN, '64', undefined] as number[]) {
      provoked.throws('IPI_INVALID_VECTOR', () => machine.sendIpiAll(vector))
      provoked.throws('IPI_INVALID_VECTOR', () => machine.sendIpiAllButSelf(vector))
      provoked.throws('IPI_INVALID_VECTOR', () => machine.sendIpiSelf(vector))
      provoked.throws('IPI_INVALID_VECTOR', () => machine.sendIpiMask([1], vector))
    }
  })

  test('to handle', () => {
    const none = (): void => undefined
    for (const vector of [0, 31, 128, 0xef, 0xfb, 0xff, 256, Number.NaN, 50.5, '50'] as number[]) {
      provoked.throws('IPI_INVALID_VECTOR', () => machine.requestIrq(vector, 'x', none))
      provoked.throws('IPI_INVALID_VECTOR', () => machine.freeIrq(vector))
    }
    machine.requestIrq(0x70, 'the first', none)
    const error = provoked.throws('IPI_VECTOR_IN_USE', () => machine.requestIrq(0x70, 'x', none))
    assert.match(error.message, /the first/)
    machine.freeIrq(0x70)
    provoked.throws('IPI_INVALID_VECTOR', () => machine.freeIrq(0x70))
    for (const [name, handler] of [
      [5, none],
      ['x', 5],
      ['x', undefined],
    ] as unknown as [string, () => void][]) {
      provoked.throws('IPI_INVALID_ARGUMENT', () => machine.requestIrq(0x71, name, handler))
    }
    machine.releaseVector(0x70)
  })

  test('when all are taken', () => {
    const taken: number[] = []
    provoked.throws('IPI_NO_FREE_VECTOR', () => {
      for (;;) taken.push(machine.allocVector())
    })
    assert.equal(new Set(taken).size, taken.length)
    assert.ok(taken.every((vector) => vector >= 0x31 && vector < 0xef && vector !== 0x80))
    for (const vector of taken) machine.releaseVector(vector)
    machine.releaseVector(machine.allocVector())
  })

  test('an APIC register that is not there', () => {
    provoked.throws('IPI_APIC_FAULT', () => machine.cpu.apic.readMsr(0x999))
    provoked.throws('IPI_APIC_FAULT', () => machine.cpu.apic.writeMsr(0x1b, 1n))
  })
})

describe('waiting where nobody may wait', () => {
  for (const cpu of [0, 1]) {
    for (const place of ['interrupts off', 'handler', 'softirq', 'called function'] as Place[]) {
      test(`${place}, CPU ${cpu}`, async () => {
        board.clear()
        const codes = await settled(runTask(cpu, waitIn, place), place)
        assert.deepEqual(
          codes,
          Array.from({ length: WAITS }, () => 'IPI_WOULD_DEADLOCK'),
        )
        await expectBalancedBooks(machine)
      })
    }
  }

  test('control of the machine, with interrupts off', async () => {
    machine.cpu.localIrqDisable()
    const attempts = [
      machine.cpuUp(),
      machine.cpuDown(1),
      machine.cpuhpSetupState('x', {}),
      machine.smpSendStop(),
      machine.smpCallFunctionSingle(1, whoAmI),
    ]
    const outcomes = await Promise.allSettled(attempts)
    machine.cpu.localIrqEnable()
    for (const outcome of outcomes) {
      assert.ok(outcome.status === 'rejected')
      await provoked.rejects('IPI_WOULD_DEADLOCK', Promise.reject(outcome.reason as Error))
    }
    assert.deepEqual([...machine.onlineMask], [0, 1, 2])
    await expectBalancedBooks(machine)
  })

  test('on a thread that must not block', () => {
    Object.defineProperty(machine.cpu.platform, 'mayBlock', { value: false, configurable: true })
    try {
      for (const call of everyWay(whoAmI).blocking) provoked.throws('IPI_CANNOT_BLOCK', call)
      const space = machine.addressSpace('machine.bad')
      provoked.throws('IPI_CANNOT_BLOCK', () => space.flushTlbPageSync(1))
      provoked.throws('IPI_CANNOT_BLOCK', () => machine.cpu.halt(0))
    } finally {
      Object.defineProperty(machine.cpu.platform, 'mayBlock', { value: true, configurable: true })
    }
  })
})

test('every code of the table is provoked by some test', () => {
  provoked.expect('bad-calls')
  const all = new Set<string>(Object.values(CODES_BY_FILE).flat())
  assert.deepEqual([...all].sort(), Object.keys(IPI_ERROR_CODES).sort())
})
