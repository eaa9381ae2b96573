/** Signalling, control and the APIC in every interleaving that takes seconds. More: `npm run explore -- --seconds 60`. */

import { testScenarios } from '../support/explorer-tests.ts'
import { APIC } from './scenarios/apic.ts'
import { CONTROL } from './scenarios/control.ts'
import { SIGNALLING } from './scenarios/signalling.ts'

testScenarios([...SIGNALLING, ...CONTROL, ...APIC])
