/** Each deliberate fault in tasks is found by the scenarios that it names: none of them is there for show. */

import { testMutants } from '../support/explorer-mutant-tests.ts'
import { TASKS } from './scenarios/tasks.ts'

testMutants(TASKS)
