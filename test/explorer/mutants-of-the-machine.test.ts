/** Each deliberate fault in signalling, control and the APIC is found by the scenarios that it names: none of them is there for show. */

import { testMutants } from '../support/explorer-mutant-tests.ts'
import { APIC } from './scenarios/apic.ts'
import { CONTROL } from './scenarios/control.ts'
import { SIGNALLING } from './scenarios/signalling.ts'

testMutants([...SIGNALLING, ...CONTROL, ...APIC])
