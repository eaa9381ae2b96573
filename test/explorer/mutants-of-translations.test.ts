/** Each deliberate fault in what keeps translations coherent is found by the scenarios that it names. */

import { testMutants } from '../support/explorer-mutant-tests.ts'
import { TRANSLATIONS } from './scenarios/translations.ts'

testMutants(TRANSLATIONS)
