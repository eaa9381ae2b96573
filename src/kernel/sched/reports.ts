/** What tasks report of themselves while they run, at their submitter. */

import { HEADER } from '../../hardware/layout.ts'
import type { MachineMemory } from '../../hardware/machine-memory.ts'
import type { TaskValues } from './task-values.ts'

/** Called with each report of one task. */
export type ReportListener = (value: unknown) => void

/** The reports of one submitter's tasks. Private to its thread. */
export class Reports {
  readonly #memory: MachineMemory
  readonly #values: TaskValues
  readonly #listeners = new Map<number, ReportListener>()

  constructor(memory: MachineMemory, values: TaskValues) {
    this.#memory = memory
    this.#values = values
  }

  /** Somebody wants the reports of the task with this ticket. */
  expect(ticket: number, listener: ReportListener): void {
    this.#listeners.set(ticket, listener)
  }

  /** The task has ended. */
  forget(ticket: number): void {
    this.#listeners.delete(ticket)
  }

  /** Takes what has come. */
  take(): void {
    if (this.#listeners.size === 0) return
    for (const cpu of this.#memory.readMask(HEADER.presentMask)) {
      this.#values.takeReports(cpu, (ticket, value) => this.#listeners.get(ticket)?.(value))
    }
  }
}
