/** What another CPU is doing, in words: for errors and reports about CPUs that do not answer. */

import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import type { Cpu } from './cpu.ts'
import type { FunctionTable } from './functions.ts'

/** The name of each CPU state, by its number. */
export const CPU_STATE_NAMES: readonly string[] = Object.entries(CPU_STATE)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name)

/** One sentence about a CPU, read from its per-CPU page without its help. Any context. */
export function describeTarget(cpu: Cpu, functions: FunctionTable, target: number): string {
  const { memory } = cpu
  const read = (field: number): number => memory.readCpu(target, field)
  const state = CPU_STATE_NAMES[read(CPU.state)] ?? 'unknown'
  const online = memory.testCpu(HEADER.onlineMask, target) ? '' : ', not online'
  const off = read(CPU.interruptsOff) !== 0 ? ', interrupts off' : ''
  const request = read(CPU.currentRequest)
  const running =
    request === 0
      ? ''
      : `, running "${functions.describe(read(CPU.currentFunction), read(CPU.currentFunction + 1))}"`
  const vector = read(CPU.currentVector)
  const handling = vector === 0 ? '' : `, in vector ${vector}`
  const idle = (state === 'parked' || state === 'running') && running + handling === ''
  const why = idle ? ' (its event loop has not turned: application code is running)' : ''
  return `CPU ${target} is ${state}${online}${off}${running}${handling}${why}`
}
