/** Errors with a stable code and facts as fields, and bugs that stop. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { assert as invariant, AssertionError } from '../../src/base/assert.ts'
import { IPI_ERROR_CODES, IpiError, isIpiError, type IpiErrorCode } from '../../src/base/errors.ts'

describe('IpiError', () => {
  test('has its code, its message, its facts as fields, its cause', () => {
    const cause = new Error('why')
    const error = new IpiError('IPI_TIMEOUT', 'late', { cpu: 3, waitedMs: 5, started: true, cause })
    assert.ok(error instanceof Error)
    assert.equal(error.name, 'IpiError')
    assert.equal(error.code, 'IPI_TIMEOUT')
    assert.equal(error.message, 'late')
    assert.deepEqual([error.cpu, error.waitedMs, error.started], [3, 5, true])
    assert.equal(error.cause, cause)
    assert.match(String(error.stack), /errors\.test/)
  })

  test('facts that are not known are no fields', () => {
    const error = new IpiError('IPI_CPU_OFFLINE', 'gone', { cpu: 1 })
    for (const fact of ['cpus', 'vector', 'functionName', 'waitedMs', 'started', 'cause']) {
      assert.equal(Object.hasOwn(error, fact), false, fact)
    }
    assert.deepEqual(Object.keys(error).sort(), ['code', 'cpu', 'name'])
  })

  test('every code has a sentence that defines it', () => {
    for (const [code, sentence] of Object.entries(IPI_ERROR_CODES)) {
      assert.match(code, /^IPI_[A-Z_]+$/)
      assert.ok(sentence.length > 10 && !sentence.endsWith('.'), code)
    }
  })
})

describe('isIpiError', () => {
  test('knows the errors of this copy of the library and of another', () => {
    for (const code of Object.keys(IPI_ERROR_CODES) as IpiErrorCode[]) {
      assert.ok(isIpiError(new IpiError(code, 'x')))
      assert.ok(isIpiError(Object.assign(new Error('x'), { code })))
    }
  })

  test('knows nothing else', () => {
    const others: unknown[] = [
      undefined,
      null,
      'IPI_TIMEOUT',
      new Error('x'),
      { code: 'IPI_TIMEOUT', message: 'not an Error' },
      Object.assign(new Error('x'), { code: 'ENOENT' }),
      Object.assign(new Error('x'), { code: 5 }),
      // Names that every object has.
      Object.assign(new Error('x'), { code: 'toString' }),
      Object.assign(new Error('x'), { code: 'constructor' }),
      Object.assign(new Error('x'), { code: '__proto__' }),
    ]
    for (const other of others) assert.equal(isIpiError(other), false, String(other))
  })
})

test('assert stops with the broken invariant, and only then', () => {
  invariant(true, 'holds')
  assert.throws(() => invariant(false, 'one is two'), {
    name: 'AssertionError',
    message: 'broken invariant: one is two',
  })
  assert.ok(new AssertionError('x') instanceof Error)
})
