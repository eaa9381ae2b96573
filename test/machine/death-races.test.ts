/**
 * Deaths at the worst moment, arranged step by step: between two steps of a protocol, in the wrong
 * order, twice at once, with an answer on its way to a thread that is not there any more.
 */

import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { test } from 'node:test'
import { ATTENTION, CPU, CPU_STATE, HEADER } from '../../src/hardware/layout.ts'
import { createMachine, type Machine } from '../../src/index.ts'
import { REQUEST_STATE, requestFlags, stateOf, transition } from '../../src/kernel/request.ts'
import { settled, until, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import {
  ADDRESS,
  callMain,
  callManyTimes,
  callOther,
  deaf,
  flushSpace,
  SPACE,
  useSpace,
} from '../support/machine-death-tasks.ts'
import { withAdopted } from '../support/machine-harness.ts'
import { echo, runTask, startTask, whoAmI } from '../support/machine-tasks.ts'

const entry = new URL('../support/machine-death-tasks.js', import.meta.url)
const SLOTS = 8

test('an argument that went down with its sender takes no other request along', async () => {
  await withAdopted({ cpus: 3, tasks: entry }, async ({ machine, board, kill, adopt }) => {
    await startTask(2, deaf)
    await board.reached(WORD.entered)
    const large = { target: 2, name: 'machine.echo', info: 'large'.repeat(1000) }
    await startTask(1, callOther, large)
    await board.reached(WORD.sent)
    const behind = machine.smpCallFunctionSingle(2, echo, 'behind it')
    await kill(1)
    // A new life has new ports: what is still in the old one will never be found.
    await adopt(1)
    board.set(WORD.release, 1)
    assert.equal(await settled(behind, 'the call behind'), 'behind it')
    await expectBalancedBooks(machine, [1])
  })
})

test('callData: a CPU that ends the call of the dead does not count for the next record', async () => {
  const options = { cpus: 3, tasks: entry, callDriver: 'callData' } as const
  await withAdopted(options, async ({ machine, board, kill }) => {
    const call = { target: 2, name: 'machine.holdThenMask' }
    await startTask(1, callOther, call)
    await board.reached(WORD.entered)
    await kill(1)
    const mine = machine.smpCallFunctionSingle(2, echo, 'mine')
    board.set(WORD.release, 1)
    // CPU 2 has ended the function of the dead, and takes no interrupt yet. Look again, here.
    await board.reached(WORD.done)
    machine.cpu.descriptors[0]!.attend(ATTENTION.wake)
    await nextTurn()
    await nextTurn()
    board.set(WORD.free, 1)
    assert.equal(await settled(mine, 'the call of CPU 0'), 'mine')
    await expectBalancedBooks(machine)
  })
})

test('the argument of a call is not read as its answer while two CPUs die', async () => {
  // CPU 1 exists in memory only, so that its thread can be made to die between any two steps.
  const machine = createMachine({ maxCpus: 2 })
  const { memory, descriptors } = machine.cpu
  const { words } = memory
  Atomics.store(words, memory.cpuPage(1) + CPU.callQueue, 0)
  Atomics.store(words, memory.cpuPage(1) + CPU.state, CPU_STATE.running)
  memory.setCpu(HEADER.onlineMask, 1)
  try {
    let outcome: unknown = 'pending'
    const call = machine.smpCallFunctionSingle(1, echo, 'argument', { timeoutMs: 5000 })
    const seen = call.then(
      (value) => (outcome = value),
      (error: unknown) => (outcome = (error as { code: unknown }).code),
    )
    const slots = Array.from({ length: memory.slotCount }, (_, slot) => slot)
    const slot = slots.find((each) => stateOf(requestFlags(memory, each)) === REQUEST_STATE.queued)!
    assert.ok(transition(memory, slot, requestFlags(memory, slot), REQUEST_STATE.running))
    const announce = async (): Promise<void> => {
      Atomics.add(words, HEADER.burials, 1)
      descriptors[0]!.attend(ATTENTION.wake)
      for (let turn = 0; turn < 10; turn++) await nextTurn()
    }
    // Its burial has begun: the state says so, its requests are not settled yet. Another is announced.
    Atomics.store(words, memory.cpuPage(1) + CPU.state, CPU_STATE.dead)
    await announce()
    assert.equal(outcome, 'pending')
    assert.ok(transition(memory, slot, requestFlags(memory, slot), REQUEST_STATE.died))
    await announce()
    await settled(seen, 'the call')
    assert.equal(outcome, 'IPI_CPU_DIED')
    assert.equal(stateOf(requestFlags(memory, slot)), REQUEST_STATE.free)
  } finally {
    memory.clearCpu(HEADER.onlineMask, 1)
    await machine.close()
  }
})

for (const blocking of [false, true]) {
  const how = blocking ? 'blocked' : 'awaited'
  test(`an answer to an earlier life, ${how}, brings its slot home to the next`, async () => {
    const options = { cpus: 3, tasks: entry, slotCount: SLOTS }
    await withAdopted(options, async ({ machine, board, kill, adopt }) => {
      await startTask(1, callOther, { target: 2, name: 'machine.hold', blocking })
      await board.reached(WORD.entered)
      await kill(1)
      await adopt(1)
      // One slot is still with CPU 2; the others must do.
      assert.equal(await settled(runTask(1, callMain, 4 * SLOTS), 'calls of the new life'), true)
      board.set(WORD.release, 1)
      assert.equal(await settled(machine.smpCallFunctionSingle(2, whoAmI), 'CPU 2'), 2)
      await until(
        () => slotsOut(machine, 1) === 0,
        () => `${slotsOut(machine, 1)} slots did not come home`,
      )
      // All of them can be out at once, the one that came home among them.
      board.clear()
      await startTask(2, deaf)
      await board.reached(WORD.entered)
      const { result } = await startTask(1, callManyTimes, { target: 2, times: 2 * SLOTS })
      await until(
        () => slotsOut(machine, 1) === SLOTS,
        () => `${slotsOut(machine, 1)} of ${SLOTS} slots are in use`,
      )
      board.set(WORD.release, 1)
      assert.equal(await settled(result, 'calls with all slots'), true)
      await expectBalancedBooks(machine, [1])
    })
  })
}

/** How many requests of a CPU are out. */
function slotsOut({ cpu: { memory } }: Machine, cpu: number): number {
  let out = 0
  for (let i = 0; i < memory.slotCount; i++) {
    const state = stateOf(requestFlags(memory, cpu * memory.slotCount + i))
    if (state === REQUEST_STATE.queued || state === REQUEST_STATE.running) out++
  }
  return out
}

test('a request that was given up comes home although both its ends died', async () => {
  const options = { cpus: 3, tasks: entry, slotCount: SLOTS }
  await withAdopted(options, async ({ machine, board, kill, adopt }) => {
    await startTask(2, deaf)
    await board.reached(WORD.entered)
    const call = { target: 2, name: 'machine.echo', timeoutMs: 1 }
    const { result } = await startTask(1, callOther, call)
    await assert.rejects(settled(result, 'the call'), { code: 'IPI_TIMEOUT' })
    await kill(1)
    await kill(2)
    board.clear()
    await adopt(2)
    await adopt(1)
    assert.equal(await settled(runTask(1, callMain, 4 * SLOTS), 'calls with all slots'), true)
    await expectBalancedBooks(machine, [1, 2])
  })
})

test('a sender that died between its post and its ring leaves nobody asleep', async () => {
  await withAdopted({ cpus: 3, tasks: entry, haltPollMs: 0 }, async ({ machine, kill }) => {
    const { memory } = machine.cpu
    const page = memory.cpuPage(2)
    await until(
      () =>
        memory.readCpu(2, CPU.state) === CPU_STATE.parked && memory.readCpu(2, CPU.attention) === 0,
      () => 'CPU 2 did not park',
    )
    // What CPU 1 leaves behind: attention without a ring. Whoever posts after it relies on its ring.
    Atomics.or(memory.words, page + CPU.attention, ATTENTION.wake)
    const call = machine.smpCallFunctionSingle(2, whoAmI)
    for (let turn = 0; turn < 10; turn++) await nextTurn()
    assert.notEqual(memory.readCpu(2, CPU.attention), 0, 'nobody rang')
    await kill(1)
    assert.equal(await settled(call, 'the call'), 2)
    await expectBalancedBooks(machine)
  })
})

test('two flushers die one after the other, and the third finds the lock free', async () => {
  await withAdopted(
    { cpus: 4, tasks: entry, tlbDriver: 'tlbstate' },
    async ({ machine, board, kill }) => {
      await machine.smpCallFunction(useSpace)
      await startTask(3, deaf)
      await board.reached(WORD.entered)
      await startTask(1, flushSpace)
      await startTask(2, flushSpace)
      await board.reached(WORD.sent, 2)
      await kill(1)
      await kill(2)
      const flush = machine.addressSpace(SPACE).flushTlbPage(ADDRESS)
      board.set(WORD.release, 1)
      await settled(flush, 'the flush of CPU 0')
      assert.deepEqual([...machine.addressSpace(SPACE).cpuMask], [3])
      await expectBalancedBooks(machine)
    },
  )
})

test('several die at once: everybody who waits is told of each', async () => {
  await withAdopted({ cpus: 5, tasks: entry }, async ({ machine, board, adopted, kill }) => {
    const call = machine.smpCallFunction('machine.hold')
    await board.reached(WORD.entered, 4)
    const told = settled(
      call.then(
        () => [],
        (error: unknown) => [...(error as { errors: Map<number, { code: string }> }).errors],
      ),
      'the call',
    )
    const victims = adopted.slice(0, 3).map(({ cpu }) => cpu)
    await Promise.all(victims.map((cpu) => kill(cpu)))
    board.set(WORD.release, 1)
    const codes = (await told).map(([cpu, { code }]) => [cpu, code])
    assert.deepEqual(
      codes,
      victims.map((cpu) => [cpu, 'IPI_CPU_DIED']),
    )
    await expectBalancedBooks(machine)
  })
})
