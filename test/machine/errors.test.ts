/**
 * What is thrown on one CPU arrives on another as what it was: class, name, message, code, fields,
 * causes, parts, and the stacks of both sides (users' question 3.11, pitfall P23).
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { boot, IpiError, isIpiError, SmpCallError, type Machine } from '../../src/index.ts'
import { settled } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import {
  returnsTrap,
  sendToNobody,
  THROWN,
  throwIpiError,
  throwOne,
} from '../support/machine-error-tasks.ts'
import { died } from '../support/machine-harness.ts'

const entry = new URL('../support/machine-error-tasks.js', import.meta.url)
let machine: Machine

before(async () => {
  machine = await boot({ cpus: 3, maxCpus: 4, entry })
})
after(async () => {
  await expectBalancedBooks(machine)
  await machine.close()
})

/** What a call to CPU 1 rejects with; the blocking form must throw the same. */
async function thrown(which: string): Promise<unknown> {
  const notThrown = Symbol('nothing was thrown')
  let blocking: unknown = notThrown
  try {
    machine.smpCallFunctionSingleSync(1, throwOne, which)
  } catch (error) {
    blocking = error
  }
  const call = machine.smpCallFunctionSingle(1, throwOne, which)
  const awaited = await settled(call, which).then(
    () => notThrown,
    (error: unknown) => error,
  )
  assert.notEqual(awaited, notThrown)
  assert.deepEqual(blocking, awaited)
  return awaited
}

describe('an error keeps', () => {
  for (const [which, Class] of [
    ['TypeError', TypeError],
    ['RangeError', RangeError],
    ['SyntaxError', SyntaxError],
    ['Error', Error],
  ] as const) {
    test(`its class: ${which}`, async () => {
      const error = (await thrown(which)) as Error
      assert.equal(error.constructor, Class)
      assert.equal(error.name, which)
      assert.equal(error.message, (THROWN[which]!() as Error).message)
      assert.ok(!Object.keys(error).includes('stack') && !Object.keys(error).includes('name'))
    })
  }

  test('its name and its fields, those that can be cloned', async () => {
    const error = (await thrown('PaymentError')) as Error & Record<string, unknown>
    assert.ok(error instanceof Error)
    assert.equal(error.name, 'PaymentError')
    assert.equal(error.message, 'payment of 12 refused')
    assert.equal(error['amount'], 12)
    const by = new Map([['card', 2]])
    assert.deepEqual(error['details'], { currency: 'EUR', tried: new Date(0), by })
    assert.equal('retry' in error, false)
    assert.equal('lock' in error, false)
    assert.match(String(error), /^PaymentError: payment of 12 refused$/)
  })

  test('its code, whatever kind of code it is', async () => {
    const error = (await thrown('system error')) as NodeJS.ErrnoException
    assert.deepEqual({ code: error.code, errno: error.errno }, { code: 'ENOENT', errno: -2 })
    assert.equal(((await thrown('AbortError')) as Error).name, 'AbortError')
    assert.equal(((await thrown('renamed')) as Error).name, 'Renamed')
  })

  test('the stacks of both sides', async () => {
    async function askFromHere(): Promise<unknown> {
      return await machine.smpCallFunctionSingle(1, throwOne, 'TypeError')
    }
    const awaited = await askFromHere().catch((error: unknown) => error as Error)
    function askAndBlock(): unknown {
      return machine.smpCallFunctionSingleSync(1, throwOne, 'TypeError')
    }
    let blocking = new Error()
    try {
      askAndBlock()
    } catch (error) {
      blocking = error as Error
    }
    for (const [error, caller] of [
      [awaited as Error, 'askFromHere'],
      [blocking, 'askAndBlock'],
    ] as const) {
      const lines = error.stack!.split('\n')
      assert.equal(lines[0], 'TypeError: a type error')
      const remote = lines.findIndex((line) => line.includes('deepInTheRemoteCode'))
      const hop = lines.findIndex((line) => line.includes('CPU 1 ("machine.throwOne"'))
      const local = lines.findIndex((line) => line.includes(caller))
      assert.ok(remote > 0 && hop > remote && local > hop, error.stack)
      assert.match(lines[hop]!, /called by CPU 0/)
    }
  })

  test('its causes, however many', async () => {
    const outer = (await thrown('cause')) as Error
    const middle = outer.cause as Error
    assert.equal(outer.message, 'outer')
    assert.ok(middle instanceof RangeError)
    assert.equal(middle.message, 'middle')
    assert.equal(middle.cause, 'innermost')
    assert.match(middle.stack!, /RangeError: middle/)
    let depth = 0
    for (let error = (await thrown('long chain')) as Error; error.cause; depth++) {
      error = error.cause as Error
    }
    assert.ok(depth >= 4, 'a long chain is cut, not dropped')
    assert.equal(((await thrown('cause is itself')) as Error).message, 'its own cause')
  })

  test('its parts', async () => {
    const error = (await thrown('aggregate')) as AggregateError
    assert.ok(error instanceof AggregateError)
    assert.equal(error.message, 'several')
    assert.equal(error.errors.length, 3)
    assert.ok(error.errors[0] instanceof TypeError)
    assert.equal(error.errors[1], 'second')
    assert.equal(error.errors[2].amount, 3)
  })

  test('its message, however large', async () => {
    assert.equal(((await thrown('large')) as Error).message, 'large '.repeat(2000))
  })
})

describe('what is no proper error', () => {
  test('arrives as it was thrown, if it can be cloned', async () => {
    for (const which of ['undefined', 'null', 'number', 'string', 'object', 'bigint']) {
      assert.deepEqual(await thrown(which), THROWN[which]!(), which)
    }
  })

  test('arrives as text, if it cannot', async () => {
    assert.equal(await thrown('symbol'), 'Symbol(thrown)')
    assert.match(String(await thrown('function')), /function thrown/)
  })

  test('arrives all the same, if it cannot be read', async () => {
    for (const which of ['unreadable', 'no stack', 'frozen', 'null prototype field']) {
      assert.ok((await thrown(which)) instanceof Error, which)
    }
    assert.equal(((await thrown('frozen')) as Error).message, 'frozen')
  })

  test('a result that throws while it is copied', async () => {
    const error = await settled(machine.smpCallFunctionSingle(1, returnsTrap), 'the call').catch(
      (reason: unknown) => reason as Error,
    )
    assert.match((error as Error).message, /a trap in the result/)
  })
})

describe('an IpiError that the function throws', () => {
  const codes = [
    'IPI_TIMEOUT',
    'IPI_CPU_OFFLINE',
    'IPI_UNKNOWN_FUNCTION',
    'IPI_APIC_FAULT',
  ] as const
  // These have a meaning for calls; thrown by the function they mean what the function says.
  const special = ['IPI_ASYNC_FUNCTION', 'IPI_UNCLONEABLE', 'IPI_CPU_DIED'] as const
  for (const code of [...codes, ...special]) {
    test(`keeps its code, its message and its facts: ${code}`, async () => {
      const facts = { cpu: 7, functionName: 'another', waitedMs: 3 }
      const info = { code: code as never, facts }
      const error = await settled(
        machine.smpCallFunctionSingle(1, throwIpiError, info),
        'call',
      ).then(
        () => assert.fail('nothing was thrown'),
        (reason: unknown) => reason as IpiError,
      )
      assert.ok(error instanceof IpiError && isIpiError(error))
      assert.equal(error.code, code)
      assert.equal(error.message, 'thrown by the application')
      const { cpu, functionName, waitedMs } = error
      assert.deepEqual({ cpu, functionName, waitedMs }, facts)
    })
  }

  test('is told from one of the call itself by its stack', async () => {
    const call = machine.smpCallFunctionSingle(1, sendToNobody)
    const error = await call.then(
      () => assert.fail('nothing was thrown'),
      (reason: unknown) => reason as IpiError,
    )
    assert.equal(error.code, 'IPI_CPU_OFFLINE')
    assert.equal(error.cpu, 3)
    assert.match(error.stack!, /at CPU 1 \("machine\.sendToNobody", called by CPU 0\)/)
  })
})

describe('a call to several CPUs', () => {
  test('tells what each of them said', async () => {
    const error = await machine.onEachCpu(throwOne, 'PaymentError').then(
      () => assert.fail('nothing was thrown'),
      (reason: unknown) => reason as SmpCallError,
    )
    assert.ok(error instanceof SmpCallError && error instanceof IpiError && isIpiError(error))
    assert.equal(error.name, 'SmpCallError')
    assert.equal(error.code, 'IPI_CALL_FAILED')
    assert.deepEqual([...error.errors.keys()], [0, 1, 2])
    assert.deepEqual(error.cpus, [0, 1, 2])
    assert.equal(error.functionName, 'machine.throwOne')
    assert.equal(error.results.size, 0)
    assert.equal(error.cause, error.errors.get(0))
    assert.match(error.message, /failed on 3 of 3 CPUs; CPU 0: payment of 12 refused/)
    for (const each of error.errors.values()) assert.equal((each as Error).name, 'PaymentError')
    assert.throws(() => machine.smpCallFunctionSync(throwOne, 'number'), {
      code: 'IPI_CALL_FAILED',
      cpus: [1, 2],
      cause: 42,
    })
  })

  test('an error that nobody awaits is told to those who listen', async () => {
    const told: unknown[] = []
    const listen = (details: { name: string; error: unknown }): void => void told.push(details)
    machine.on('error', listen)
    machine.requestIrq(0x66, 'broken handler', () => {
      throw new RangeError('in a handler')
    })
    machine.sendIpiSelf(0x66)
    machine.freeIrq(0x66)
    machine.off('error', listen)
    assert.equal(told.length, 1)
    const { cpu, error } = told[0] as { cpu: number; error: Error }
    assert.equal(cpu, 0)
    assert.equal(error.message, 'in a handler')
    await expectBalancedBooks(machine)
  })
})

test('an error that ends a thread is told with its class and its code', async () => {
  const buried = died(machine, 2)
  await machine.smpCallFunctionSingle(2, 'machine.endWithError')
  const error = (await buried) as Error & { code: unknown }
  assert.equal(error.message, 'the end of this thread')
  assert.equal(error.code, 'E_END')
})
