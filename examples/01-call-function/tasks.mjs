// Every thread imports this module, and so every CPU knows these functions by their names.

import { sharedFunction, thisMachine } from 'interprocessor'

export const hello = sharedFunction('hello', (/** @type {string} */ name) => {
  return `hello ${name}, this is CPU ${thisMachine().cpu.id}`
})

export const countWords = sharedFunction('countWords', (text) => text.split(/\s+/).length)
