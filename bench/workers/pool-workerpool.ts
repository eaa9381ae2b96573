/** The same tasks as workerpool wants them. */

import workerpool from 'workerpool'
import { compute, echo, increment, runAway } from './pool-tasks.ts'

workerpool.worker({ increment, echo, compute, runAway })
