/** What the steps of the demonstration share: the machine, the board, and how a result is shown. */

import { setTimeout as sleep } from 'node:timers/promises'
import { CpuMask, type Machine } from '../../index.ts'
import { verify } from '../failure.ts'
import { formatWord, type Column, type Printer } from '../print.ts'
import type { Board } from './board.ts'
import type { Icr } from './cpu.ts'
import type { Work } from './work.ts'

/** One part of the demonstration. */
export interface Step {
  readonly title: string
  /** One line on what there is to see. */
  readonly about: string
  /** Shows it, and throws a `DemoFailure` if anything is not as it must be. */
  run(stage: Stage): Promise<void>
}

/** One act: who sent what, who took it. */
export interface Act {
  readonly from: number
  readonly sent: string
  readonly icr: Icr
  readonly received: CpuMask
  readonly us: string
}

/** How long an interrupt may take to arrive before it counts as lost, in milliseconds. */
const ARRIVAL_MS = 5000

const COLUMNS: readonly Column[] = [
  { title: 'CPU', width: 3, align: 'right' },
  { title: 'sends', width: 27, align: 'left' },
  { title: 'ICR', width: 8, align: 'left' },
  { title: 'destination', width: 12, align: 'left' },
  { title: 'received', width: 8, align: 'left' },
  { title: 'µs', width: 11, align: 'right' },
]

/** The stage of one demonstration. */
export class Stage {
  readonly machine: Machine
  readonly board: Board
  readonly out: Printer
  /** What the calls run: bundled, or the user's own. */
  readonly work: Work

  constructor(machine: Machine, board: Board, out: Printer, work: Work) {
    this.machine = machine
    this.board = board
    this.out = out
    this.work = work
  }

  /** Every CPU that is online. */
  get all(): CpuMask {
    return this.machine.onlineMask
  }

  /** Every CPU but this one. */
  get others(): CpuMask {
    return this.all.without(this.machine.cpu.id)
  }

  /** Writes the titles of the columns that {@link show} fills. */
  header(): void {
    this.out.header(COLUMNS)
  }

  /** Verifies that the right CPUs took what was sent, and shows it. */
  show({ from, sent, icr, received, us }: Act, expected: CpuMask): void {
    verify(
      received.equals(expected),
      `${sent} of CPU ${from} was for ${describe(expected)} and reached ${describe(received)}`,
    )
    const cells = [
      String(from),
      sent,
      formatWord(icr.low),
      destination(icr),
      received.toString(),
      us,
    ]
    this.out.row(COLUMNS, cells)
  }

  /**
   * Acts, and looks into the interrupt table for who took interrupts of a row meanwhile: the row's
   * label, or the number of a vector.
   */
  async observe<Value>(
    label: string,
    act: () => Promise<Value> | Value,
  ): Promise<{ readonly value: Value; readonly received: CpuMask; readonly us: number }> {
    const before = this.machine.interrupts()
    const start = performance.now()
    const value = await act()
    const us = (performance.now() - start) * 1000
    const after = this.machine.interrupts()
    const took = [...this.all].filter((cpu) => after.count(label, cpu) > before.count(label, cpu))
    return { value, received: CpuMask.from(took), us }
  }

  /** Waits until every CPU of a mask has stamped the board; verifies that each did. */
  async arrival(mask: CpuMask, what: string): Promise<void> {
    const missing = (): number[] => [...mask].filter((cpu) => this.board.stampOf(cpu) === 0n)
    const deadline = performance.now() + ARRIVAL_MS
    while (missing().length > 0 && performance.now() < deadline) await sleep(1)
    verify(
      missing().length === 0,
      `${what} did not reach CPU ${missing().join(', ')} within ${ARRIVAL_MS} ms`,
    )
  }

  /** How many microseconds after `start` each CPU of a mask stamped the board, ascending. */
  delays(mask: CpuMask, start: bigint): number[] {
    const us = [...mask].map((cpu) => Number(this.board.stampOf(cpu) - start) / 1000)
    return us.sort((a, b) => a - b)
  }
}

/** The middle one of some measurements. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >>> 1]!
}

/** A set of CPUs in words. */
export function describe(mask: CpuMask): string {
  if (mask.isEmpty) return 'nobody'
  return `${mask.size === 1 ? 'CPU' : 'CPUs'} ${mask.toString()}`
}

/** The destination in words: the shorthand of bits 18 and 19, or the mask in the top byte. */
function destination({ low, high }: Icr): string {
  const shorthands = ['', 'self', 'all', 'all but self']
  const shorthand = shorthands[(low >>> 18) & 3]
  return shorthand || `mask 0x${(high >>> 24).toString(16).padStart(2, '0')}`
}
