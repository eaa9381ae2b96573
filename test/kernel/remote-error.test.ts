/** Errors across threads: what was thrown there is what is caught here, with both stacks. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { IpiError, isIpiError, SmpCallError } from '../../src/index.ts'
import { describeError, rebuildError } from '../../src/kernel/remote-error.ts'
import { nodePlatform } from '../../src/platform/node.ts'
import { THREAD_SCRIPT } from '../../src/worker.ts'
import { CALL_DRIVERS } from '../support/kernel-bench.ts'
import { bootThreads } from '../support/kernel-threads.ts'
import { throwKind } from '../support/kernel-tasks.ts'

const platform = nodePlatform(THREAD_SCRIPT)

/** Through everything an error goes through between two threads. */
function cross(error: unknown): unknown {
  return rebuildError(
    structuredClone(describeError(error, (value) => platform.isCloneable(value))),
    'at CPU 1',
    'Error\n at me',
  )
}

class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly status: number
  constructor(message: string, status: number) {
    super(message)
    this.status = status
  }
}

describe('an error that crosses', () => {
  test('is of its built-in class, with its message', () => {
    const classes = [Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError]
    for (const Class of classes) {
      const back = cross(new Class('what happened')) as Error
      assert.equal(back.constructor, Class)
      assert.equal(back.name, Class.name)
      assert.equal(back.message, 'what happened')
    }
  })

  test('of a class of its own keeps its name and fields, as an Error', () => {
    const back = cross(new HttpError('not found', 404)) as HttpError
    assert.ok(back instanceof Error)
    assert.equal(back.name, 'HttpError')
    assert.equal(back.status, 404)
  })

  test('keeps the fields that can be cloned, and only those', () => {
    const error = Object.assign(new Error('x'), {
      code: 'ENOENT',
      details: { path: 'a.txt', tries: new Map([[1, 2]]) },
      callback: () => undefined,
    })
    const back = cross(error) as typeof error
    assert.equal(back.code, 'ENOENT')
    assert.deepEqual(back.details, error.details)
    assert.equal('callback' in back, false)
  })

  test('keeps its cause, and the cause of that, down to a limit', () => {
    const back = cross(new Error('a', { cause: new TypeError('b', { cause: 'c' }) })) as Error
    assert.ok(back.cause instanceof TypeError)
    assert.equal(back.cause.message, 'b')
    assert.equal(back.cause.cause, 'c')
    const ring = new Error('ring')
    ring.cause = ring
    let depth = 0
    for (let each: unknown = cross(ring); each instanceof Error; each = each.cause) depth++
    assert.ok(depth > 1 && depth < 20)
  })

  test('keeps the parts of an AggregateError', () => {
    const back = cross(new AggregateError([new RangeError('a'), 'b'], 'several')) as AggregateError
    assert.ok(back instanceof AggregateError)
    assert.equal(back.message, 'several')
    assert.ok(back.errors[0] instanceof RangeError)
    assert.equal(back.errors[1], 'b')
  })

  test('is an IpiError again, with code, facts and cause', () => {
    const cause = new Error('why')
    const back = cross(new IpiError('IPI_TIMEOUT', 'late', { cpu: 2, waitedMs: 7, cause }))
    assert.ok(back instanceof IpiError)
    assert.deepEqual([back.code, back.cpu, back.waitedMs], ['IPI_TIMEOUT', 2, 7])
    assert.equal((back.cause as Error).message, 'why')
    assert.ok(isIpiError(cross(Object.assign(new Error('x'), { code: 'IPI_TIMEOUT' }))))
  })

  test('of a call that failed there is an IpiError, with what each CPU did', () => {
    const results = new Map([[1, 'fine']])
    const back = cross(new SmpCallError('task', results, new Map([[2, 'thrown']])))
    assert.ok(back instanceof IpiError)
    assert.equal(back.name, 'SmpCallError')
    assert.equal(back.code, 'IPI_CALL_FAILED')
    assert.deepEqual((back as SmpCallError).results, results)
  })

  test('has the stack of both sides, with the hop between them', () => {
    const error = new Error('x')
    error.stack = 'Error: x\n    at remote'
    assert.equal((cross(error) as Error).stack, 'Error: x\n    at remote\n    at CPU 1\n at me')
  })

  test('that claims to be of a class that is none is an Error', () => {
    for (const name of ['toString', 'constructor', '__proto__', 'IpiError']) {
      const error = new (class extends Error {})('x')
      Object.defineProperty(error.constructor, 'name', { value: name })
      const back = cross(error) as Error
      assert.ok(back instanceof Error)
      assert.equal(back.message, 'x')
    }
  })
})

describe('what is thrown and is no error', () => {
  test('comes as it is if it can be cloned', () => {
    for (const thrown of [undefined, null, 0, 'text', { a: [1] }, new Map([[1, 2]]), 5n]) {
      assert.deepEqual(cross(thrown), thrown)
    }
  })

  test('comes as text if it cannot', () => {
    assert.equal(cross(Symbol('s')), 'Symbol(s)')
    assert.equal(
      cross({ f: () => 1, toString: () => 'an object with a function' }),
      'an object with a function',
    )
  })

  test('that cannot even be read is an error that says so', () => {
    const trap = new Proxy(new Error('x'), {
      get: () => {
        throw new Error('trap')
      },
    })
    const bare = Object.assign(Object.create(null) as object, { f: () => 1 })
    for (const unreadable of [trap, bare]) {
      const back = cross(unreadable)
      assert.ok(back instanceof Error)
      assert.match(back.message, /unreadable/)
    }
  })
})

for (const callDriver of CALL_DRIVERS) {
  test(`across real threads, by promise, blocking, and from several CPUs (${callDriver})`, async () => {
    await using threads = await bootThreads({ cpus: 3, callDriver })
    const { machine } = threads
    const isTheirs = (error: unknown): boolean => {
      assert.ok(error instanceof RangeError)
      assert.equal(error.message, 'thrown by CPU 1')
      assert.equal((error as Error & { code?: string }).code, 'E_TEST')
      assert.match(String(error.stack), /kernel-tasks[^]*at CPU 1[^]*remote-error\.test/)
      return true
    }
    await assert.rejects(machine.smpCallFunctionSingle(1, throwKind, 'range'), isTheirs)
    assert.throws(() => machine.smpCallFunctionSingleSync(1, throwKind, 'range'), isTheirs)
    await assert.rejects(machine.smpCallFunctionSingle(1, throwKind, 'promise'), {
      code: 'IPI_ASYNC_FUNCTION',
      cpu: 1,
    })
    await assert.rejects(machine.smpCallFunctionSingle(1, throwKind, 'uncloneable'), {
      code: 'IPI_UNCLONEABLE',
      cpu: 1,
    })
    await assert.rejects(machine.smpCallFunctionSingle(1, 'no such function'), {
      code: 'IPI_UNKNOWN_FUNCTION',
      cpu: 1,
    })
    await assert.rejects(
      machine.smpCallFunctionSingle(1, throwKind, 'undefined'),
      (error) => error === undefined,
    )
    await assert.rejects(machine.smpCallFunction(throwKind, 'on 2'), (error) => {
      assert.ok(error instanceof SmpCallError)
      assert.deepEqual([...error.errors.keys()], [2])
      assert.deepEqual([...error.results], [[1, 'fine']])
      assert.equal((error.errors.get(2) as Error).message, 'thrown by CPU 2')
      return true
    })
  })
}
