/** The log of flushes: records, holes, rounds, and generations that wrap. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { RECORD, RECORD_WORDS, SPACE, spaceLog } from '../../src/hardware/layout.ts'
import { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { FLUSH, FlushLog, type Flush } from '../../src/kernel/flush-log.ts'

const MM = 3

function makeLog(size = 4): { log: FlushLog; memory: MachineMemory; at: number } {
  const memory = MachineMemory.create({
    cpuCount: 1,
    slotCount: 1,
    slotWords: 32,
    flushLogSize: size,
    taskCount: 2,
  })
  return { memory, log: new FlushLog(memory, MM, 2), at: spaceLog(memory, MM) }
}

const key = (hash: number): Flush => ({ kind: FLUSH.key, from: hash, to: 0 })

describe('records', () => {
  test('are read as they were written, by generation', () => {
    const { log } = makeLog()
    assert.equal(log.append([key(7), { kind: FLUSH.range, from: 1, to: 9 }]), 2)
    assert.equal(log.published[0], 2)
    assert.deepEqual(log.read(1), key(7))
    assert.deepEqual(log.read(2), { kind: FLUSH.range, from: 1, to: 9 })
  })

  test('of an earlier round are holes', () => {
    const { log } = makeLog(2)
    for (let i = 1; i <= 3; i++) log.append([key(i)])
    assert.equal(log.read(1), undefined)
    assert.deepEqual(
      [2, 3].map((each) => log.read(each)?.from),
      [2, 3],
    )
  })

  test('more than the ring holds become one flush of everything', () => {
    const { log } = makeLog(2)
    assert.equal(log.append([key(1), key(2), key(3)]), 1)
    assert.equal(log.read(1)?.kind, FLUSH.all)
  })

  test('go on when the generations wrap, and each quarter is counted', () => {
    const { log, memory, at } = makeLog()
    const { quarters } = log
    memory.words[at + SPACE.reserved] = 0x7ffffffe
    log.published[0] = 0x7ffffffe
    for (let i = 0; i < 8; i++) log.append([key(i)])
    assert.equal(log.published[0], (0x7ffffffe + 8) | 0)
    assert.deepEqual(log.read(log.published[0]), key(7))
    assert.equal(log.quarters, quarters + 1)
  })
})

describe('a writer that stands still', () => {
  test('before it writes, leaves a hole that others publish past', () => {
    const { log, memory, at } = makeLog()
    memory.words[at + SPACE.reserved]! += 1
    assert.equal(log.append([key(2)]), 2)
    assert.equal(log.read(1), undefined)
    assert.deepEqual(log.read(2), key(2))
  })

  test('while it writes, keeps its place: who comes a round later does not mix with it', () => {
    const { log, memory, at } = makeLog(2)
    const first = at + SPACE.log + RECORD_WORDS
    memory.words[at + SPACE.reserved]! += 1
    memory.words[first + RECORD.commit] = (1 << 1) | 1
    log.append([key(2)])
    log.append([key(3)])
    assert.equal(log.read(3), undefined, 'the place of generation 3 is that of generation 1')
    // It goes on.
    memory.words[first + RECORD.from] = 1
    memory.words[first + RECORD.commit] = 1 << 1
    assert.equal(log.read(3), undefined)
    log.append([key(4), key(5)])
    assert.deepEqual(log.read(5), key(5))
  })

  test('for a whole round, finds its place used and leaves it alone', () => {
    const { log, memory, at } = makeLog(2)
    const late = new FlushLog(memory, MM, 1)
    // It has taken generation 1, and is overtaken by a round.
    memory.words[at + SPACE.reserved] = 2
    log.append([key(3)])
    memory.words[at + SPACE.reserved] = 0
    assert.equal(late.append([key(1)]), 1)
    assert.deepEqual(log.read(3), key(3))
    assert.equal(log.published[0], 3, 'and it does not take the generation back')
  })

  test('for ever, is published past by whoever buries it', () => {
    const { log, memory, at } = makeLog()
    memory.words[at + SPACE.reserved]! += 3
    log.reap()
    log.reap()
    assert.equal(log.published[0], 3)
  })
})
