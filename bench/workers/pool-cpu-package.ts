/** The same with the package as it is published, for what depends on how it is loaded. */

import * as library from 'interprocessor'
import { shareTasks } from './pool-functions.ts'

export const tasks = shareTasks(library as unknown as Parameters<typeof shareTasks>[0])
