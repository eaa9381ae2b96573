/** The races of docs/races.md as scenarios: the real kernels of two or three CPUs do what the row tells. */

import type { KernelScenario } from './scenario.ts'
import { APIC } from './scenarios/apic.ts'
import { CALLS } from './scenarios/calls.ts'
import { CONTROL } from './scenarios/control.ts'
import { LIVES } from './scenarios/lives.ts'
import { MEMORY_TYPES } from './scenarios/memory-types.ts'
import { SIGNALLING } from './scenarios/signalling.ts'
import { TASKS } from './scenarios/tasks.ts'
import { STORE } from './scenarios/store.ts'
import { TRANSLATIONS } from './scenarios/translations.ts'

/** All of them. */
export const SCENARIOS: readonly KernelScenario[] = [
  ...SIGNALLING,
  ...CALLS,
  ...LIVES,
  ...CONTROL,
  ...APIC,
  ...MEMORY_TYPES,
  ...TASKS,
  ...TRANSLATIONS,
  ...STORE,
]
