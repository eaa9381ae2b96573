import { sharedFunction, thisMachine } from 'interprocessor'

export const whoAreYou = sharedFunction('whoAreYou', () => `CPU ${thisMachine().cpu.id}`)
