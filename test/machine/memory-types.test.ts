/**
 * Memory types on real threads: adding and deleting ranges, and types of keys. Rows D-222 and D-223 of
 * docs/conformance.md; the book's claim F-08. The protocol is B11.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Machine, MemoryType } from '../../src/index.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { withAdopted, withMachine } from '../support/machine-harness.ts'
import { hold, startTask } from '../support/machine-tasks.ts'
import {
  applyTypes,
  churn,
  holdBack,
  LOOKS,
  registersOf,
  SPACE,
  typesOf,
} from '../support/machine-type-tasks.ts'

const tasks = new URL('../support/machine-type-tasks.js', import.meta.url)
const MIB = 0x100000
const UC = 'uncacheable'
const WC = 'write-combining'
const WB = 'write-back'

/** The ranges in use, in MiB: register, base, size, type, usage. */
const table = (machine: Machine): string[] =>
  machine.mtrr
    .read()
    .ranges.map(
      ({ reg, base, size, type, usage }) => `${reg}: ${base / MIB}+${size / MIB} ${type} ×${usage}`,
    )

/** All CPUs have the same registers, at one moment. */
async function expectAgreement(machine: Machine): Promise<void> {
  const cpus = machine.onlineMask
  const said = (await machine.stopMachine(registersOf, undefined, { cpus })) as unknown
  const registers = [...(said as Map<number, string>).values()]
  assert.equal(registers.length, cpus.size)
  assert.equal(new Set(registers).size, 1, registers.join('\n'))
}

describe('D-222 adding and deleting on one CPU', () => {
  const on = (cases: (machine: Machine) => Promise<void>): Promise<void> =>
    withMachine({ cpus: 1 }, ({ machine }) => cases(machine))
  const add = (machine: Machine, base: number, size: number, type: MemoryType): Promise<number> =>
    machine.mtrr.add(base * MIB, size * MIB, type)

  test('D-222 every overlap gives its result, and the use is counted', () =>
    on(async (machine) => {
      const refused = { code: 'IPI_TYPE_CONFLICT' }
      assert.equal(await add(machine, 256, 64, WB), 0)
      assert.equal(await add(machine, 512, 64, WC), 1, 'disjoint: a register of its own')
      assert.equal(await add(machine, 320, 64, WC), 2, 'next to one is disjoint')
      assert.equal(await add(machine, 256, 64, WB), 0, 'the same: one user more')
      assert.equal(await add(machine, 272, 16, WB), 0, 'within one of its type: the same')
      assert.equal(
        await machine.mtrr.add(272 * MIB, 16 * MIB, WB, { increment: false }),
        0,
        'and not counted if so asked',
      )
      assert.equal(await add(machine, 256, 16, UC), 3, 'within one of another type: if uncacheable')
      await assert.rejects(add(machine, 272, 16, WC), refused, 'within one of another type')
      await assert.rejects(add(machine, 256, 128, WB), refused, 'around one of its type')
      await assert.rejects(add(machine, 0, 1024, UC), refused, 'around all, though uncacheable')
      assert.deepEqual(table(machine), [
        '0: 256+64 write-back ×3',
        '1: 512+64 write-combining ×1',
        '2: 320+64 write-combining ×1',
        '3: 256+16 uncacheable ×1',
      ])
      assert.equal(machine.mtrr.typeOf(256 * MIB), UC)
      assert.equal(machine.mtrr.typeOf(300 * MIB), WB)
      assert.equal(machine.mtrr.typeOf(520 * MIB), WC)
      assert.equal(machine.mtrr.typeOf(600 * MIB), machine.mtrr.read().defaultType)
    }))

  test('D-222 the last user of a range deletes it, found by number or by place', () =>
    on(async (machine) => {
      await add(machine, 256, 64, WC)
      await add(machine, 256, 64, WC)
      await add(machine, 512, 64, WC)
      assert.equal(await machine.mtrr.del(0, 0, 0), 0)
      assert.deepEqual(table(machine), [
        '0: 256+64 write-combining ×1',
        '1: 512+64 write-combining ×1',
      ])
      assert.equal(await machine.mtrr.del(-1, 256 * MIB, 64 * MIB), 0)
      assert.deepEqual(table(machine), ['1: 512+64 write-combining ×1'])
      assert.equal(machine.mtrr.typeOf(256 * MIB), WB)
      assert.equal(await add(machine, 1024, 1, UC), 0, 'its register is free')
      for (const bad of [0.5, 7, 8, 99]) {
        await assert.rejects(machine.mtrr.del(bad, 0, 0), { code: 'IPI_INVALID_ARGUMENT' })
      }
      for (const [base, size] of [
        [512, 32],
        [513, 64],
        [256, 64],
      ] as const) {
        await assert.rejects(machine.mtrr.del(-1, base * MIB, size * MIB), {
          code: 'IPI_INVALID_ARGUMENT',
        })
      }
    }))

  test('D-222 the ninth range finds no register', () =>
    on(async (machine) => {
      for (let i = 0; i < 8; i++) assert.equal(await add(machine, 256 + 2 * i, 1, WC), i)
      await assert.rejects(add(machine, 512, 1, WC), { code: 'IPI_NO_FREE_RANGE' })
      assert.equal(await add(machine, 258, 1, WC), 1, 'one that is there needs none')
    }))

  test('D-222 what is no range is refused, and says why', () =>
    on(async (machine) => {
      const bad: readonly (readonly [base: unknown, size: unknown, type: unknown])[] = [
        [256 * MIB + 1, 4096, WC],
        [256 * MIB, 4095, WC],
        [256 * MIB, 0, WC],
        [-4096, 4096, WC],
        [Number.NaN, 4096, WC],
        ['0', 4096, WC],
        [256 * MIB, 3 * MIB, WC],
        [257 * MIB, 2 * MIB, WC],
        [0xa0000, 0x10000, WC],
        [2 ** 36, 4096, WC],
        [2 ** 36 - 4096, 8192, WC],
        [256 * MIB, MIB, 'cached'],
        [256 * MIB, MIB, 6],
      ]
      for (const [base, size, type] of bad) {
        await assert.rejects(machine.mtrr.add(base as number, size as number, type as MemoryType), {
          code: 'IPI_INVALID_ARGUMENT',
        })
      }
      assert.deepEqual(table(machine), [])
      for (const address of [-1, 2 ** 36, 0.5, Number.NaN]) {
        assert.throws(() => machine.mtrr.typeOf(address), { code: 'IPI_INVALID_ARGUMENT' })
      }
    }))

  test('it prints as /proc/mtrr', () =>
    on(async (machine) => {
      await add(machine, 3584, 256, WC)
      await machine.mtrr.add(8 * MIB, 0x4000, UC)
      assert.equal(
        String(machine.mtrr.read()),
        'reg00: base=0xe0000000 (3584MB), size= 256MB: write-combining, count=1\n' +
          'reg01: base=0x00800000 (   8MB), size=  16KB: uncacheable, count=1',
      )
    }))
})

describe('the rendezvous', () => {
  test('D-223, F-08 all CPUs change alike, whoever asks, and late joiners have what the others have', () =>
    withMachine({ cpus: 3, maxCpus: 4, entry: tasks }, async ({ machine, board }) => {
      const { result } = await startTask(1, churn)
      await board.reached(WORD.done, 1)
      await machine.mtrr.add(512 * MIB, 64 * MIB, WC)
      const late = await machine.cpuUp()
      await expectAgreement(machine)
      await board.reached(WORD.done, board.get(WORD.done) + 3)
      board.set(WORD.release, 1)
      assert.ok((await settled(result, 'churn')) > 3)
      await expectAgreement(machine)
      await machine.cpuDown(late)
      await machine.mtrr.del(-1, 512 * MIB, 64 * MIB)
      await machine.cpuUp()
      await expectAgreement(machine)
      assert.deepEqual(table(machine), [])
      await expectBalancedBooks(machine, [late])
    }))

  test('one that does not come is named, and nothing has changed', () =>
    withMachine({ cpus: 3, entry: tasks, timeoutMs: 200 }, async ({ machine, board }) => {
      const held = machine.smpCallFunctionSingle(2, hold, {}, { timeoutMs: 20_000 })
      await board.reached(WORD.entered)
      await assert.rejects(machine.mtrr.add(512 * MIB, MIB, WC), { code: 'IPI_TIMEOUT', cpus: [2] })
      board.set(WORD.release, 1)
      await held
      await expectAgreement(machine)
      assert.deepEqual(table(machine), [])
      assert.equal(await machine.mtrr.add(512 * MIB, MIB, WC), 0, 'and the next time it works')
      await expectAgreement(machine)
      await expectBalancedBooks(machine)
    }))

  test('one that dies while it is asked is not waited for', () =>
    withAdopted({ cpus: 4, tasks }, async ({ machine, board, kill }) => {
      const held = machine.smpCallFunctionSingle(2, hold)
      held.catch(() => undefined)
      await board.reached(WORD.entered)
      const added = machine.mtrr.add(512 * MIB, MIB, WC)
      await kill(2)
      assert.equal(await settled(added, 'add'), 0)
      await expectAgreement(machine)
      assert.deepEqual(table(machine), ['0: 512+1 write-combining ×1'])
    }))

  test('those who change types without end are killed one after the other, and the rest agree', () =>
    withAdopted({ cpus: 4, tasks }, async ({ machine, board, kill, adopt }) => {
      for (let round = 0; round < 6; round++) {
        const victim = 1 + (round % 3)
        await Promise.all([...machine.onlineMask.without(0)].map((cpu) => startTask(cpu, churn)))
        await board.reached(WORD.done, board.get(WORD.done) + 5)
        await kill(victim)
        board.set(WORD.release, 1)
        await settled(machine.mtrr.add(512 * MIB, 64 * MIB, WC), 'add')
        await expectAgreement(machine)
        await machine.mtrr.del(-1, 512 * MIB, 64 * MIB)
        board.set(WORD.release, 0)
        await adopt(victim)
        await expectAgreement(machine)
      }
    }))

  test('in a handler and with interrupts off it is refused', () =>
    withMachine({ cpus: 2, entry: tasks }, async ({ machine }) => {
      machine.cpu.localIrqDisable()
      const added = machine.mtrr.add(512 * MIB, MIB, WC)
      machine.cpu.localIrqEnable()
      await assert.rejects(added, { code: 'IPI_WOULD_DEADLOCK' })
    }))
})

describe('types of keys', () => {
  test('ranges go before the space, uncacheable before all; late joiners have them', () =>
    withMachine({ cpus: 2, maxCpus: 3, entry: tasks }, async ({ machine }) => {
      const all = async (): Promise<string> => {
        const said = [...(await machine.onEachCpu(typesOf)).values()]
        assert.equal(new Set(said).size, 1, said.join('\n'))
        return said[0]!.replaceAll(/\w+-|cacheable/g, '')
      }
      // cfg:a, cfg:, user:1, '', 7, 100
      assert.equal(await all(), 'protected,protected,protected,protected,protected,protected')
      await machine.mtrr.setType(SPACE, 'all', WB)
      await machine.mtrr.setType(SPACE, { prefix: 'cfg:' }, 'write-through')
      await machine.mtrr.setType(SPACE, { range: [0, 100] }, UC)
      assert.equal(await all(), 'through,through,back,back,un,back')
      await machine.mtrr.setType(SPACE, { prefix: 'cfg:a' }, WB)
      assert.equal(
        await all(),
        'through,through,back,back,un,back',
        'write-through over write-back',
      )
      await machine.mtrr.setType(SPACE, { prefix: 'cfg:a' }, UC)
      await machine.cpuUp()
      assert.equal(await all(), 'un,through,back,back,un,back')
      await machine.mtrr.setType(SPACE, { prefix: 'cfg:a' }, undefined)
      await machine.mtrr.setType(SPACE, { range: [0, 100] }, undefined)
      await machine.mtrr.setType(SPACE, 'all', undefined)
      assert.equal(await all(), 'through,through,protected,protected,protected,protected')
      assert.equal(machine.mtrr.typeOf('another', 'cfg:a'), 'write-protected')
    }))

  test('what does not go together, and what is no range, is refused', () =>
    withMachine({ cpus: 1, entry: tasks }, async ({ machine }) => {
      const { mtrr } = machine
      await mtrr.setType(SPACE, { prefix: 'cfg:' }, WC)
      for (const prefix of ['c', 'cfg:a']) {
        await assert.rejects(mtrr.setType(SPACE, { prefix }, WB), { code: 'IPI_TYPE_CONFLICT' })
      }
      await mtrr.setType('other', { prefix: 'cfg:' }, WB)
      await mtrr.setType(SPACE, { range: [0, 10] }, WC)
      await assert.rejects(mtrr.setType(SPACE, { range: [9, 20] }, WB), {
        code: 'IPI_TYPE_CONFLICT',
      })
      await mtrr.setType(SPACE, { range: [10, 20] }, WB)
      for (const bad of [
        undefined,
        'some',
        {},
        { prefix: '' },
        { prefix: 'x'.repeat(100) },
        { range: [1, 1] },
        { range: [0, Number.NaN] },
        { range: [0] },
      ]) {
        await assert.rejects(mtrr.setType(SPACE, bad as 'all', WB), {
          code: 'IPI_INVALID_ARGUMENT',
        })
      }
      await assert.rejects(mtrr.setType(SPACE, 'all', 'cached' as MemoryType), {
        code: 'IPI_INVALID_ARGUMENT',
      })
      for (let i = 0; i < 60; i++) await mtrr.setType(SPACE, { prefix: `${i}.` }, WB)
      await assert.rejects(mtrr.setType(SPACE, { prefix: 'more' }, WB), {
        code: 'IPI_NO_FREE_RANGE',
      })
      await mtrr.setType(SPACE, { prefix: '1.' }, undefined)
      await mtrr.setType(SPACE, { prefix: 'more' }, WB)
      assert.equal(mtrr.typeOf(SPACE, 'more'), WB)
    }))

  test('a space has one type, whoever declares it', () =>
    withMachine({ cpus: 1, entry: tasks }, async ({ machine }) => {
      const { types } = machine.mtrr
      types.declare(5, WB)
      types.declare(5, WB)
      assert.equal(types.typeOf(5, 'key'), WB)
      assert.throws(() => types.declare(5, UC), { code: 'IPI_TYPE_CONFLICT' })
    }))

  test('no two CPUs ever apply different types to one key', () =>
    withMachine({ cpus: 3, entry: tasks }, async ({ machine, board }) => {
      const tasksOn = await Promise.all([1, 2].map((cpu) => startTask(cpu, applyTypes)))
      await board.reached(WORD.entered, 2)
      for (let round = 0; round < 40; round++) {
        const types = [WB, 'write-through', UC, 'write-protected', undefined] as const
        await machine.mtrr.setType(SPACE, { prefix: 'cfg:' }, types[round % types.length])
      }
      await board.reached(LOOKS, 2)
      board.set(WORD.release, 1)
      for (const { result } of tasksOn) assert.equal(await settled(result, 'applying'), 0)
    }))

  test('what was held back is written out before the keys have their new type', () =>
    withMachine({ cpus: 2, entry: tasks, timeoutMs: 2000 }, async ({ machine, board }) => {
      const { mtrr } = machine
      const keys = { prefix: 'cfg:' }
      const now = (): MemoryType => mtrr.typeOf(SPACE, 'cfg:a')
      await mtrr.setType(SPACE, keys, WC)
      await machine.smpCallFunctionSingle(1, holdBack, 'later')
      const before = board.get(WORD.counted)
      assert.deepEqual(await mtrr.setType(SPACE, keys, WB), [])
      assert.equal(board.get(WORD.counted), before + 2, 'told when it ends, and when it begins')
      assert.equal(now(), WB)
    }))

  for (const [how, code] of [
    ['fails', 'IPI_CALL_FAILED'],
    ['never', 'IPI_TIMEOUT'],
  ] as const) {
    test(`if writing out ${how} they keep their type, and it says who`, () =>
      withMachine({ cpus: 3, entry: tasks, timeoutMs: 300 }, async ({ machine }) => {
        const { mtrr } = machine
        const keys = { prefix: 'cfg:' }
        machine.on('error', () => undefined)
        await mtrr.setType(SPACE, keys, WC)
        await machine.smpCallFunctionSingle(2, holdBack, how)
        await assert.rejects(mtrr.setType(SPACE, keys, WB), { code, cpus: [2] })
        const said = await machine.onEachCpu(typesOf)
        for (const types of said.values()) assert.match(types, /^write-combining/)
      }))
  }

  test('one that dies with something held back is told of', () =>
    withAdopted({ cpus: 3, tasks }, async ({ machine, board, kill }) => {
      const { mtrr } = machine
      const keys = { prefix: 'cfg:' }
      await mtrr.setType(SPACE, keys, WC)
      await machine.smpCallFunctionSingle(1, holdBack, 'never')
      const set = mtrr.setType(SPACE, keys, UC)
      await board.reached(WORD.counted)
      await kill(1)
      assert.deepEqual(await settled(set, 'setType'), [1])
      assert.equal(mtrr.typeOf(SPACE, 'cfg:a'), UC)
    }))
})
