/** Shared functions: one name, one function, found by what a request can carry. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { FunctionTable, hashName } from '../../src/kernel/functions.ts'

const INVALID = { code: 'IPI_INVALID_ARGUMENT' }

describe('registering', () => {
  test('the shared function runs like the one it was made of', () => {
    const table = new FunctionTable()
    const double = table.register('double', (n: number) => 2 * n)
    assert.equal(double(21), 42)
    assert.equal(double.sharedName, 'double')
    assert.equal(double.name, 'double')
    assert.equal(double.interruptSafe, false)
    assert.equal(table.register('safe', () => 1, { interruptSafe: true }).interruptSafe, true)
  })

  test('a second function of the same name is refused, and the first stays', () => {
    const table = new FunctionTable()
    table.register('f', () => 'first')
    assert.throws(() => table.register('f', () => 'second'), {
      code: 'IPI_DUPLICATE_FUNCTION',
      functionName: 'f',
    })
    assert.equal(table.resolve('f').run(undefined), 'first')
  })

  test('what is no name or no function is refused', () => {
    const table = new FunctionTable()
    for (const name of ['', 1, null, undefined, Symbol('f')]) {
      assert.throws(() => table.register(name as string, () => 1), INVALID)
    }
    for (const fn of [1, 'f', null, undefined, {}]) {
      assert.throws(() => table.register('f', fn as () => void), INVALID)
    }
  })

  test('async functions are known as such before anything is sent', () => {
    const table = new FunctionTable()
    table.register('sync', () => 1)
    table.register('async', async () => Promise.resolve(1))
    assert.equal(table.resolve('sync').isAsync, false)
    assert.equal(table.resolve('async').isAsync, true)
  })
})

describe('finding', () => {
  test('by the shared function, by name, and by hash', () => {
    const table = new FunctionTable()
    const shared = table.register('f', () => 1)
    const record = table.resolve(shared)
    assert.equal(record.name, 'f')
    assert.equal(table.resolve('f'), record)
    assert.equal(table.find(record.id.low, record.id.high), record)
    assert.deepEqual(record.id, hashName('f'))
  })

  test("the table of a CPU has its thread's functions too, its own first, and gives none back", () => {
    const thread = new FunctionTable()
    const shared = thread.register('f', () => 'thread')
    const cpu = new FunctionTable(thread)
    assert.equal(cpu.resolve(shared).run(undefined), 'thread')
    assert.equal(cpu.resolve('f').run(undefined), 'thread')
    cpu.register('own', () => 'cpu')
    const { low, high } = hashName('own')
    assert.equal(thread.find(low, high), undefined)
    assert.equal(cpu.find(low, high)?.run(undefined), 'cpu')
    // A function that the thread shares after the CPU came up.
    thread.register('late', () => 'late')
    assert.equal(cpu.resolve('late').run(undefined), 'late')
  })

  test('both halves of the hash must fit', () => {
    const table = new FunctionTable()
    table.register('f', () => 1)
    const { low, high } = hashName('f')
    assert.equal(table.find(low, high ^ 1), undefined)
    assert.equal(table.find(low ^ 1, high), undefined)
  })

  test('a name that this thread does not know can be called elsewhere, not here', () => {
    const record = new FunctionTable().resolve('elsewhere')
    assert.deepEqual(record.id, hashName('elsewhere'))
    assert.throws(() => record.run(undefined), { code: 'IPI_UNKNOWN_FUNCTION' })
  })

  test('a plain function is refused with advice, and so is anything else', () => {
    const table = new FunctionTable()
    table.register('f', () => 1)
    const plain = function reload(): void {}
    assert.throws(() => table.resolve(plain), {
      code: 'IPI_UNKNOWN_FUNCTION',
      functionName: 'reload',
      message: /sharedFunction/,
    })
    for (const wrong of ['', 1, null, undefined, {}]) {
      assert.throws(() => table.resolve(wrong), { code: 'IPI_UNKNOWN_FUNCTION' })
    }
  })

  test('for messages: the name behind a hash, or the hash', () => {
    const table = new FunctionTable()
    table.register('f', () => 1)
    const { low, high } = hashName('f')
    assert.equal(table.describe(low, high), 'f')
    assert.equal(table.describe(0x1, 0xab), 'function 00000001000000ab')
  })
})

test('names that differ have hashes that differ, two 32-bit words each', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.string({ minLength: 1 }), { minLength: 2, maxLength: 200 }),
      (names) => {
        const hashes = names.map((name) => {
          const { low, high } = hashName(name)
          assert.ok(low === (low | 0) && high === (high | 0))
          return `${low},${high}`
        })
        assert.equal(new Set(hashes).size, names.length)
      },
    ),
    { numRuns: 60 },
  )
})
