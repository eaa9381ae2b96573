/**
 * Calls between real threads, on both call drivers. Rows D-170 to D-174 and D-178 to D-181 of
 * docs/conformance.md, which go back to kvm-unit-tests' x86/vmexit.c, the selftests of KVM and the
 * kernel's scftorture.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isIpiError, thisMachine } from '../../src/index.ts'
import { CPU_STATE } from '../../src/hardware/layout.ts'
import { CALL_DRIVERS } from '../support/kernel-bench.ts'
import {
  advance,
  answerPlainly,
  count,
  freeArgument,
  haltUntilStopped,
  identify,
  meet,
  nothing,
  passOn,
  stayUntil,
  waitFor,
  WORD,
} from '../support/kernel-tasks.ts'
import { bootThreads, stateOf, until } from '../support/kernel-threads.ts'

const HALT_VECTOR = 0xa5

for (const callDriver of CALL_DRIVERS) {
  describe(`calls over ${callDriver}`, () => {
    test('D-170 a synchronous call returns, many times, awaited or blocking', async () => {
      await using threads = await bootThreads({ cpus: 2, callDriver })
      const { machine, words } = threads
      const times = 200
      for (let i = 0; i < times; i++) {
        assert.equal(await machine.smpCallFunctionSingle(1, nothing), undefined)
        assert.equal(machine.smpCallFunctionSingleSync(1, count), i + 1)
      }
      assert.equal(words[WORD.counts + 1], times)
      assert.equal(machine.interrupts().count('CAL', 0), 0, 'nobody called CPU 0')
    })

    test('D-171 a call wakes a CPU that is parked under its event loop, each time', async () => {
      await using threads = await bootThreads({ cpus: 2, callDriver, haltPollMs: 0 })
      const { machine } = threads
      for (let i = 0; i < 50; i++) {
        await until(() => stateOf(machine, 1) === CPU_STATE.parked, 'CPU 1 parks')
        if (i % 2 === 0) assert.equal(await machine.smpCallFunctionSingle(1, count), i + 1)
        else assert.equal(machine.smpCallFunctionSingleSync(1, count), i + 1)
      }
    })

    test('D-171 a call wakes a CPU that is halted, each time', async () => {
      await using threads = await bootThreads({ cpus: 2, callDriver })
      const { machine, words } = threads
      await machine.smpCallFunctionSingle(1, haltUntilStopped, HALT_VECTOR)
      waitFor(WORD.arrived, 1)
      for (let i = 0; i < 50; i++) {
        await until(() => stateOf(machine, 1) === CPU_STATE.halted, 'CPU 1 halts')
        const woken = Atomics.load(words, WORD.wakes)
        if (i % 2 === 0) await machine.smpCallFunctionSingle(1, nothing)
        else machine.smpCallFunctionSingleSync(1, nothing)
        waitFor(WORD.wakes, woken + 1)
      }
      advance(WORD.stop)
      await machine.smpCallFunctionSingle(1, nothing)
      waitFor(WORD.left, 1)
    })

    test('D-172 an asynchronous call returns before its function ends; all end', async () => {
      await using threads = await bootThreads({ cpus: 2, callDriver })
      const { machine, words } = threads
      for (let turn = 1; turn <= 20; turn++) {
        if (turn % 2 === 0) {
          await machine.smpCallFunctionSingle(1, stayUntil, turn, { wait: false })
        } else {
          machine.smpCallFunctionSingleSync(1, stayUntil, turn, { wait: false })
        }
        assert.equal(Atomics.load(words, WORD.left), turn - 1, 'it has not ended')
        waitFor(WORD.arrived, turn)
        assert.equal(advance(WORD.gate), turn)
        waitFor(WORD.left, turn)
      }
    })

    test('D-173 an asynchronous call to all runs once on each, on all at the same time', async () => {
      await using threads = await bootThreads({ cpus: 4, callDriver })
      const { machine, words } = threads
      // Nobody goes on before all have come: they are in the function together.
      for (let round = 1; round <= 3; round++) {
        await machine.smpCallFunction(meet, 3 * round, { wait: false })
        waitFor(WORD.left, 3 * round)
      }
      await machine.smpCallFunction(nothing)
      assert.equal(Atomics.load(words, WORD.arrived), 9, 'each once per round')
    })

    test('D-174 a round-robin chain of calls never stalls', async () => {
      await using threads = await bootThreads({ cpus: 4, callDriver })
      const { machine, words } = threads
      const rounds = 50
      await machine.smpCallFunctionSingle(1, passOn, 4 * rounds, { wait: false })
      await until(() => Atomics.load(words, WORD.total) >= 4 * rounds, 'the chain ends')
      await machine.onEachCpu(nothing)
      assert.deepEqual([...words.subarray(WORD.counts, WORD.counts + 4)], Array(4).fill(rounds))
    })

    test('D-177, F-04 each function runs where it was sent, with interrupts off, as an interrupt', async () => {
      await using threads = await bootThreads({ cpus: 3, callDriver })
      const { machine } = threads
      const expected = (cpu: number) => ({ cpu, irqsDisabled: true, inInterrupt: true })
      const others = new Map([
        [1, expected(1)],
        [2, expected(2)],
      ])
      assert.deepEqual(await machine.smpCallFunction(identify), others)
      assert.deepEqual(machine.smpCallFunctionSync(identify), others)
      assert.deepEqual(await machine.smpCallFunctionSingle(2, identify), expected(2))
      assert.deepEqual(
        await machine.smpCallFunctionMany([0, 2], identify),
        new Map([[2, expected(2)]]),
      )
      assert.deepEqual(await machine.smpCallFunctionAny([1, 2], identify), expected(1))
      const each = await machine.onEachCpu(identify)
      assert.deepEqual(each.get(0), { cpu: 0, irqsDisabled: true, inInterrupt: false })
      assert.deepEqual([...each.keys()], [0, 1, 2])
      assert.equal(thisMachine().cpu.irqsDisabled, false)
    })

    test('D-178, D-179 plain stores before a call are seen by it, its own are seen after it', async () => {
      await using threads = await bootThreads({ cpus: 2, callDriver })
      const { machine, words } = threads
      for (let i = 1; i <= 200; i++) {
        words[WORD.in] = i
        const seen =
          i % 2 === 0
            ? await machine.smpCallFunctionSingle(1, answerPlainly)
            : machine.smpCallFunctionSingleSync(1, answerPlainly)
        assert.equal(seen, i)
        assert.equal(words[WORD.out], 2 * i)
      }
    })

    test('D-180 the argument of a call without wait is freed once, by whoever has it', async () => {
      await using threads = await bootThreads({ cpus: 3, maxCpus: 4, callDriver })
      const { machine, words } = threads
      const total = 120
      let byCaller = 0
      for (let index = 0; index < total; index++) {
        words[WORD.owned + index] = 1
        try {
          // CPU 3 is possible and never online.
          const target = 1 + (index % 3)
          await machine.smpCallFunctionSingle(target, freeArgument, index, { wait: false })
        } catch (error) {
          assert.ok(isIpiError(error) && error.code === 'IPI_CPU_OFFLINE')
          assert.equal(
            Atomics.exchange(words, WORD.owned + index, 0),
            1,
            'it was never handed over',
          )
          byCaller++
        }
      }
      await machine.onEachCpu(nothing)
      assert.equal(byCaller, total / 3)
      assert.equal(words[WORD.counts + 1]! + words[WORD.counts + 2]!, total - byCaller)
      assert.equal(words[WORD.late], 0, 'nothing was freed twice')
      assert.ok(words.subarray(WORD.owned, WORD.owned + total).every((owned) => owned === 0))
    })

    test('D-181 a CPU that comes and goes either runs a call once or refuses it', async () => {
      await using threads = await bootThreads({ cpus: 2, maxCpus: 3, callDriver })
      const { machine, words } = threads
      const ranOn2 = (): number => Atomics.load(words, WORD.counts + 2)
      let toggling = true
      const toggle = async (): Promise<void> => {
        for (let life = 0; life < 2; life++) {
          const before = ranOn2()
          await machine.cpuUp(2)
          await until(() => ranOn2() > before, 'a call finds CPU 2')
          await machine.cpuDown(2)
        }
        toggling = false
      }
      const toggled = toggle()
      const places = 1024
      let refused = 0
      for (let i = 0; toggling; i++) {
        const index = WORD.owned + (i % places)
        await until(() => Atomics.load(words, index) === 0, 'the argument of this place is free')
        words[index] = 1
        const target = 1 + (i % 2)
        const wait = i % 4 < 2
        try {
          await machine.smpCallFunctionSingle(target, freeArgument, i % places, { wait })
          if (wait) assert.equal(words[index], 0, 'it was executed')
        } catch (error) {
          assert.ok(isIpiError(error), String(error))
          assert.equal(target, 2)
          assert.match(error.code, /^IPI_CPU_(OFFLINE|DIED)$/)
          const owner = Atomics.exchange(words, index, 0)
          if (error.code === 'IPI_CPU_OFFLINE') {
            assert.equal(owner, 1, 'it was not executed')
            refused++
          }
        }
        // Lets the toggling go on, too.
        await new Promise(setImmediate)
      }
      await toggled
      await machine.onEachCpu(nothing)
      assert.ok(refused > 0, 'some calls found the CPU gone')
      assert.equal(words[WORD.late], 0, 'no argument was freed twice')
      const owned = words.subarray(WORD.owned, WORD.owned + places)
      assert.ok(owned.every((each) => each === 0))
    })
  })
}
