/** Bring-up, leaving and death in every interleaving that takes seconds. More: `npm run explore -- --seconds 60`. */

import { testScenarios } from '../support/explorer-tests.ts'
import { LIVES } from './scenarios/lives.ts'

testScenarios(LIVES)
