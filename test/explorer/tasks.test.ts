/** Tasks in every interleaving that takes seconds. More: `npm run explore -- --seconds 60`. */

import { testScenarios } from '../support/explorer-tests.ts'
import { TASKS } from './scenarios/tasks.ts'

testScenarios(TASKS)
