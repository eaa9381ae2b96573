/** Memory types and the shared store in every interleaving that takes seconds. More: `npm run explore -- --seconds 60`. */

import { testScenarios } from '../support/explorer-tests.ts'
import { MEMORY_TYPES } from './scenarios/memory-types.ts'
import { STORE } from './scenarios/store.ts'

testScenarios([...MEMORY_TYPES, ...STORE])
