/** The parts of the demonstration, in the order in which they are shown. */

import { callFunctionStep } from './call-function.ts'
import { invalidateStep } from './invalidate.ts'
import { overtakeStep } from './overtake.ts'
import { rescheduleStep } from './reschedule.ts'
import { sendersStep } from './senders.ts'
import { serviceStep } from './service.ts'
import type { Step } from './stage.ts'
import { stopStep } from './stop.ts'
import { tableStep } from './table.ts'

/** What comes behind the last one finds every other CPU halted. */
export const STEPS: readonly Step[] = [
  callFunctionStep,
  rescheduleStep,
  invalidateStep,
  serviceStep,
  sendersStep,
  tableStep,
  overtakeStep,
  stopStep,
]
