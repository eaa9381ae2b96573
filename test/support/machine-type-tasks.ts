/** What the threads of the tests of memory types import. */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { MTRR_MSR, MtrrRegisters, VARIABLE_COUNT } from '../../src/hardware/mtrr.ts'
import { CPU } from '../../src/hardware/layout.ts'
import { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { sharedFunction, thisMachine, type KeyRange } from '../../src/index.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask } from './machine-tasks.ts'

export const SPACE = 'types'
const KEYS = ['cfg:a', 'cfg:', 'user:1', '', 7, 100] as const

/** All registers of this CPU, as text. */
export const registersOf = sharedFunction('types.registers', () => {
  const { cpu, memory } = thisMachine()
  const map = MachineMemory.attach(memory)
  const registers = new MtrrRegisters(map.words, map.cpuPage(cpu.id) + CPU.mtrr)
  const pairs = Array.from({ length: 2 * VARIABLE_COUNT }, (_, i) => MTRR_MSR.physBase0 + i)
  return [MTRR_MSR.defType, ...pairs].map((msr) => registers.readMsr(msr).toString(16)).join()
})

/** The types that a CPU applies to some keys. */
export const typesOf = sharedFunction('types.types', () =>
  KEYS.map((key) => thisMachine().mtrr.typeOf(SPACE, key)).join(),
)

/** Words of the board: the type that each CPU applied last, and how often all were asked. */
export const APPLIED = WORD.free
export const LOOKS = WORD.free + 8

/**
 * Applies types of one key for as long as the board does not say `release`: with interrupts off, so that no
 * change comes in between, says what it applies, looks what the others say, and takes it back. Gives how
 * often somebody applied another type at the same time.
 */
export const applyTypes = defineTask('applyTypes', async () => {
  const { cpu, mtrr } = thisMachine()
  const codes = ['write-back', 'uncacheable', 'write-through', 'write-protected']
  let disagreed = 0
  board().add(WORD.entered)
  while (board().get(WORD.release) === 0) {
    for (let turn = 0; turn < 100; turn++) {
      const flags = cpu.localIrqSave()
      const mine = 1 + codes.indexOf(mtrr.typeOf(SPACE, 'cfg:a'))
      Atomics.store(board().words, APPLIED + cpu.id, mine)
      for (let other = 0; other < 8; other++) {
        const theirs = board().get(APPLIED + other)
        if (theirs !== 0 && theirs !== mine) disagreed++
      }
      Atomics.store(board().words, APPLIED + cpu.id, 0)
      cpu.localIrqRestore(flags)
      cpu.poll()
    }
    board().add(LOOKS)
    await nextTurn()
  }
  return disagreed
})

/** How a CPU writes out what it held back. */
export type Draining = 'at once' | 'later' | 'fails' | 'never'

/** From now on this CPU holds something back, and writes it out in this way; ranges are counted. */
export const holdBack = sharedFunction('types.holdBack', (how: Draining) => {
  const { types } = thisMachine().mtrr
  const mm = 1 // the first space of the machine
  types.onChange(mm, (range: KeyRange) => {
    if (range === 'all') return undefined
    board().add(WORD.counted)
    if (how === 'at once') return undefined
    if (how === 'fails') return Promise.reject(new Error('the database is gone'))
    return new Promise<void>((resolve) => {
      if (how === 'later') setImmediate(resolve)
    })
  })
})

/** Adds and deletes a range as often as it can until the board says `release`. */
export const churn = defineTask('churn', async () => {
  const { mtrr } = thisMachine()
  let turns = 0
  for (; board().get(WORD.release) === 0; turns++) {
    const reg = await mtrr.add(0x10000000, 0x100000, 'write-combining')
    await mtrr.del(reg, 0, 0)
    board().add(WORD.done)
  }
  return turns
})
