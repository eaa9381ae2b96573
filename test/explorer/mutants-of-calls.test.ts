/** Each deliberate fault in calls and lives is found by the scenarios that it names: none of them is there for show. */

import { testMutants } from '../support/explorer-mutant-tests.ts'
import { CALLS } from './scenarios/calls.ts'
import { LIVES } from './scenarios/lives.ts'

testMutants([...CALLS, ...LIVES])
