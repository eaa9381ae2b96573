/** Each deliberate fault in memory types and in the shared store is found by the scenarios that it names. */

import { testMutants } from '../support/explorer-mutant-tests.ts'
import { MEMORY_TYPES } from './scenarios/memory-types.ts'
import { STORE } from './scenarios/store.ts'

testMutants([...MEMORY_TYPES, ...STORE])
