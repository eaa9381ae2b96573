/**
 * The books of an idle machine, read from its shared memory: every request slot at home, every lock
 * free, every queue empty, every mask true, every interrupt acknowledged.
 */

import assert from 'node:assert/strict'
import { CPU, CPU_STATE, HEADER, MM_COUNT_MAX } from '../../src/hardware/layout.ts'
import type { MachineMemory } from '../../src/hardware/machine-memory.ts'
import type { Machine } from '../../src/index.ts'
import { CLOSED, REQUEST_FLAG, REQUEST_STATE, requestFlags } from '../../src/kernel/request.ts'
import { vmMask } from '../../src/kernel/mm.ts'
import { holderOf, isVoid } from '../../src/kernel/robust-lock.ts'
import { until } from './machine-board.ts'

/** Where the 256-bit registers stand in the APIC page, in words, and how far apart their words are. */
const ISR = 0x100 / 4
const IRR = 0x200 / 4
const REGISTER_STRIDE = 4

const IDLE_STATES: readonly number[] = [CPU_STATE.running, CPU_STATE.polling, CPU_STATE.parked]
/** What a slot of an earlier life may stand at: a new life takes it as free. */
const ENDED: readonly number[] = [REQUEST_STATE.died, REQUEST_STATE.left, REQUEST_STATE.done]
const STATE_NAMES = new Map<number, string>(
  Object.entries(REQUEST_STATE).map(([name, state]) => [state, name]),
)

/**
 * Fails unless the books balance, or come to within a few seconds: the last word of an exchange may
 * still be on its way. `reborn`: CPUs whose number has had more than one life. What an earlier life
 * left in its slots is of no use to anybody, and stays there until the slot is used again.
 */
export async function expectBalancedBooks(
  machine: Machine,
  reborn: readonly number[] = [],
): Promise<void> {
  const { memory } = machine.cpu
  let wrong: string[] = []
  // What was found balanced once is: a CPU that idles still takes an interrupt now and then.
  await until(
    () => (wrong = imbalances(memory, reborn)).length === 0,
    () => wrong.join('; '),
    3000,
  ).catch(() => undefined)
  assert.deepEqual(wrong, [])
}

/** What is wrong, in words. */
export function imbalances(memory: MachineMemory, reborn: readonly number[] = []): string[] {
  const wrong: string[] = []
  const expect = (what: string, actual: unknown, expected: unknown): void => {
    if (actual !== expected) wrong.push(`${what}: ${String(actual)}, expected ${String(expected)}`)
  }
  checkHeader(memory, expect)
  const online = memory.onlineMask
  for (let cpu = 0; cpu < memory.cpuCount; cpu++) {
    checkSlots(memory, cpu, !online.has(cpu) || reborn.includes(cpu), expect)
    if (online.has(cpu)) checkOnline(memory, cpu, expect)
    else checkOffline(memory, cpu, expect)
  }
  return wrong
}

type Expect = (what: string, actual: unknown, expected: unknown) => void

function checkHeader(memory: MachineMemory, expect: Expect): void {
  const { words } = memory
  for (const lock of ['controlLock', 'callLock', 'callData', 'tlbLock'] as const) {
    const word = Atomics.load(words, HEADER[lock])
    // What a thread took that had been buried, in its last instructions, is free for whoever comes next.
    if (word === 0 || isVoid({ memory }, word)) continue
    const holder = holderOf(word)
    const life = memory.readCpu(holder, CPU.incarnation)
    expect(lock, `word ${word}, held by CPU ${holder}, in its life ${life}`, 'free')
  }
  expect('stoppingCpu', Atomics.load(words, HEADER.stoppingCpu), 0)
  expect('flushMask', memory.readMask(HEADER.flushMask).toString(), '')
  const online = memory.onlineMask.toString()
  for (const mask of ['presentMask', 'calloutMask', 'callinMask', 'commencedMask'] as const) {
    expect(mask, memory.readMask(HEADER[mask]).toString(), online)
  }
}

/** Slots: at home, or with `stale` at least out of everybody's reach. */
function checkSlots(memory: MachineMemory, cpu: number, stale: boolean, expect: Expect): void {
  for (let i = 0; i < memory.slotCount; i++) {
    const slot = cpu * memory.slotCount + i
    const flags = requestFlags(memory, slot)
    const state = flags & REQUEST_FLAG.stateMask
    if (state === REQUEST_STATE.free) continue
    if (stale && ENDED.includes(state)) continue
    const target = (flags & REQUEST_FLAG.targetMask) >>> REQUEST_FLAG.targetShift
    expect(`slot ${i} of CPU ${cpu}, to CPU ${target}`, STATE_NAMES.get(state), 'free')
  }
}

function checkOnline(memory: MachineMemory, cpu: number, expect: Expect): void {
  const page = memory.cpuPage(cpu)
  for (const field of ['callQueue', 'completions', 'attention', 'nmiPosts', 'initSipi'] as const) {
    expect(`${field} of CPU ${cpu}`, memory.readCpu(cpu, CPU[field]), 0)
  }
  for (const field of ['currentRequest', 'currentVector', 'interruptsOff'] as const) {
    expect(`${field} of CPU ${cpu}`, memory.readCpu(cpu, CPU[field]), 0)
  }
  const apic = memory.apicPage(cpu)
  for (let i = 0; i < 8; i++) {
    expect(`posted ${i} of CPU ${cpu}`, Atomics.load(memory.words, page + CPU.pir + i), 0)
    expect(`level ${i} of CPU ${cpu}`, Atomics.load(memory.words, page + CPU.levelPosts + i), 0)
    for (const [name, register] of [
      ['ISR', ISR],
      ['IRR', IRR],
    ] as const) {
      const word = Atomics.load(memory.words, apic + register + i * REGISTER_STRIDE)
      expect(`${name} ${i} of CPU ${cpu}`, word, 0)
    }
  }
  const state = memory.readCpu(cpu, CPU.state)
  if (!IDLE_STATES.includes(state)) expect(`state of CPU ${cpu}`, state, 'an idle one')
}

function checkOffline(memory: MachineMemory, cpu: number, expect: Expect): void {
  expect(`queue of CPU ${cpu}, offline`, memory.readCpu(cpu, CPU.callQueue), CLOSED)
  const state = memory.readCpu(cpu, CPU.state)
  if (state !== CPU_STATE.offline && state !== CPU_STATE.dead) {
    expect(`state of CPU ${cpu}, offline`, state, CPU_STATE.dead)
  }
  for (let mm = 0; mm < MM_COUNT_MAX; mm++) {
    expect(`cpu_vm_mask ${mm} of CPU ${cpu}, offline`, memory.testCpu(vmMask(mm), cpu), false)
  }
}
