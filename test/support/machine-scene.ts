/** What a machine does when something has gone wrong: for whoever has to find out why. */

import type { Machine } from '../../src/index.ts'
import { CPU, HEADER } from '../../src/hardware/layout.ts'
import type { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { CPU_STATE_NAMES } from '../../src/kernel/diagnose.ts'
import { REQUEST_FLAG, REQUEST_STATE, requestFlags } from '../../src/kernel/request.ts'

const LOCKS = ['controlLock', 'callLock', 'callData', 'tlbLock', 'stopState'] as const
const WORDS = [
  'attention',
  'doorbell',
  'interruptsOff',
  'threadFlags',
  'currentRequest',
  'currentVector',
  'callQueue',
] as const

/** What every CPU does, from the machine's shared memory alone. */
export function describeMemory(memory: MachineMemory): string {
  const lines = [
    LOCKS.map((name) => `${name} ${Atomics.load(memory.words, HEADER[name])}`).join(', '),
    `online {${memory.onlineMask.toString()}}, ` +
      `present {${memory.readMask(HEADER.presentMask).toString()}}`,
  ]
  for (let cpu = 0; cpu < memory.cpuCount; cpu++) {
    if (memory.readCpu(cpu, CPU.incarnation) === 0) continue
    const state = CPU_STATE_NAMES[memory.readCpu(cpu, CPU.state)]
    const words = WORDS.map((name) => `${name} ${memory.readCpu(cpu, CPU[name])}`)
    lines.push(`CPU ${cpu}: ${state}, ${words.join(', ')}; requests: ${requestsOf(memory, cpu)}`)
  }
  return lines.join('\n')
}

/** The same with interrupt counts, and what every thread runs. */
export async function describeScene(machine: Machine): Promise<string> {
  const memory = describeMemory(machine.cpu.memory)
  const stacks = await machine.backtrace().catch(String)
  return [memory, machine.interrupts(), stacks].join('\n')
}

function requestsOf(memory: MachineMemory, cpu: number): string {
  const found: string[] = []
  for (let i = 0; i < memory.slotCount; i++) {
    const flags = requestFlags(memory, cpu * memory.slotCount + i)
    const state = flags & REQUEST_FLAG.stateMask
    if (state === REQUEST_STATE.free) continue
    const name = Object.entries(REQUEST_STATE).find(([, number]) => number === state)?.[0]
    found.push(`${name} to ${(flags & REQUEST_FLAG.targetMask) >>> REQUEST_FLAG.targetShift}`)
  }
  return found.length === 0 ? 'none' : found.slice(0, 8).join(', ')
}
