// What the threads run. Both bundles have this module: functions are known by name.

import { sharedFunction, thisMachine } from 'interprocessor'

/** What is known of a text. */
export interface Counted {
  readonly words: number
  readonly letters: number
}

export const count = sharedFunction('count', (text: string): Counted => {
  const words = text.split(/\s+/).filter((word) => word !== '')
  return { words: words.length, letters: words.join('').length }
})

export const whoAreYou = sharedFunction('whoAreYou', () => `CPU ${thisMachine().cpu.id}`)
