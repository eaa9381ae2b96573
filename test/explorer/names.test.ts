/** A failure is only as good as the table that shows it: every word of a machine has its name. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  apicPage,
  CPU,
  HEADER,
  LINE_WORDS,
  machineWords,
  PAGE_WORDS,
  SLOT,
  SPACE,
  spaceLog,
  TLB,
} from '../../src/hardware/layout.ts'
import { nameOfWord } from '../support/explorer-names.ts'

const SIZE = { cpuCount: 2, slotCount: 2, slotWords: 32, flushLogSize: 4, taskCount: 2 }

test('words are called by their place', () => {
  const block = apicPage(SIZE, 1)
  const page = block + PAGE_WORDS
  const names: readonly (readonly [at: number, name: string])[] = [
    [HEADER.onlineMask, 'onlineMask'],
    [HEADER.onlineMask + 1, 'onlineMask+1'],
    [spaceLog(SIZE, 3) + SPACE.reserved, 'mm3.reserved'],
    [block + 0x300 / 4, 'apic1.300h'],
    [page + CPU.attention, 'attention1'],
    [page + PAGE_WORDS + 2 * LINE_WORDS + TLB.turnAck, 'tlb1.2.turnAck'],
    [page + 2 * PAGE_WORDS + SIZE.slotWords + SLOT.next, 'slot1.1.next'],
    [page + 2 * PAGE_WORDS + 2 * SIZE.slotWords + 5, 'ring1.1.1'],
    [machineWords(SIZE), `[${machineWords(SIZE)}]`],
  ]
  for (const [at, name] of names) assert.equal(nameOfWord(SIZE, at), name)
})

test('every word has a name of its own', () => {
  const seen = new Map<string, number>()
  for (let at = 0; at < machineWords(SIZE); at++) {
    const name = nameOfWord(SIZE, at)
    assert.equal(seen.get(name), undefined, `${name} is the name of two words`)
    seen.set(name, at)
  }
})
