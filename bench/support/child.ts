/** Runs one group in a process of its own and hands its rows to the parent. */

import { GROUPS, type GroupName } from '../groups.ts'
import type { Pace } from './group.ts'

const [name, pace] = process.argv.slice(2) as [GroupName, Pace]
const rows = await GROUPS[name].measure(pace)
process.send!(rows, () => process.disconnect())
