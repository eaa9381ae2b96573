/** The interrupt table: what `/proc/interrupts` shows. Linux `arch/x86/kernel/irq.c`. */

import { CPU } from '../hardware/layout.ts'
import { EVENT, type Cpu } from './cpu.ts'
import type { Idt } from './idt.ts'
import { FIRST_EXTERNAL_VECTOR, isDeviceVector, VECTOR } from './vectors.ts'

/** One row: a vector or an event, with its count on each CPU. */
export interface InterruptRow {
  /** The vector's number, or the kernel's three letters. */
  readonly label: string
  /** Counts in the order of `InterruptTable.cpus`. */
  readonly counts: readonly number[]
  /** What it is. */
  readonly description: string
}

/** A snapshot of every CPU's counts, taken without asking any of them. Prints as the kernel does. */
export class InterruptTable {
  /** The CPUs shown, ascending. */
  readonly cpus: readonly number[]
  readonly rows: readonly InterruptRow[]

  constructor(cpus: readonly number[], rows: readonly InterruptRow[]) {
    this.cpus = cpus
    this.rows = rows
  }

  /** The count of one row on one CPU; 0 for rows and CPUs that are not there. */
  count(label: string, cpu: number): number {
    const row = this.rows.find((candidate) => candidate.label === label)
    return row?.counts[this.cpus.indexOf(cpu)] ?? 0
  }

  /** The sum of one row over all CPUs. */
  total(label: string): number {
    const row = this.rows.find((candidate) => candidate.label === label)
    return row?.counts.reduce((sum, count) => sum + count, 0) ?? 0
  }

  toString(): string {
    const width = Math.max(
      10,
      ...this.rows.flatMap((row) => row.counts.map((count) => String(count).length)),
    )
    const header = `     ${this.cpus.map((cpu) => `CPU${cpu}`.padStart(width + 1)).join('')}`
    const lines = this.rows.map(
      (row) =>
        `${row.label.padStart(4)}:` +
        `${row.counts.map((count) => String(count).padStart(width + 1)).join('')}` +
        `  ${row.description}`,
    )
    return [header, ...lines].join('\n')
  }
}

/** The kernel's own rows: label, what is counted, description. */
const KERNEL_ROWS: readonly (readonly [string, number | 'nmi', string])[] = [
  ['NMI', 'nmi', 'Non-maskable interrupts'],
  ['LOC', VECTOR.LOCAL_TIMER_VECTOR, 'Local timer interrupts'],
  ['SPU', VECTOR.SPURIOUS_APIC_VECTOR, 'Spurious interrupts'],
  ['RES', VECTOR.RESCHEDULE_VECTOR, 'Rescheduling interrupts'],
  ['CAL', VECTOR.CALL_FUNCTION_VECTOR, 'Function call interrupts'],
  ['TLB', VECTOR.INVALIDATE_TLB_VECTOR, 'TLB shootdowns'],
  ['TRM', VECTOR.THERMAL_APIC_VECTOR, 'Thermal event interrupts'],
  ['ERR', VECTOR.ERROR_APIC_VECTOR, 'APIC errors'],
]

/** Takes the snapshot of the given CPUs. Any context. */
export function readInterrupts(cpu: Cpu, idt: Idt, cpus: readonly number[]): InterruptTable {
  const { memory } = cpu
  const counts = (vector: number): number[] =>
    cpus.map((each) => memory.readCpu(each, CPU.vectorCounts + vector) >>> 0)
  const rows: InterruptRow[] = []
  for (let vector = FIRST_EXTERNAL_VECTOR; vector < VECTOR.LOCAL_TIMER_VECTOR; vector++) {
    if (!isDeviceVector(vector)) continue
    const row = counts(vector)
    const name = idt.irqName(vector)
    if (name === undefined && row.every((count) => count === 0)) continue
    rows.push({ label: String(vector), counts: row, description: name ?? 'unexpected here' })
  }
  for (const [label, what, description] of KERNEL_ROWS) {
    const row = what === 'nmi' ? cpus.map((each) => cpu.readCount(each, EVENT.nmi)) : counts(what)
    rows.push({ label, counts: row, description })
  }
  return new InterruptTable(cpus, rows)
}
