/** What every CPU of our pool imports. */

import * as library from '../../src/index.ts'
import { shareTasks } from './pool-functions.ts'

export const tasks = shareTasks(library)
