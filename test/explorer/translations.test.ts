/** Coherent translations in every interleaving that takes seconds. More: `npm run explore -- --seconds 60`. */

import { testScenarios } from '../support/explorer-tests.ts'
import { TRANSLATIONS } from './scenarios/translations.ts'

testScenarios(TRANSLATIONS)
