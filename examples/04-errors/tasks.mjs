import { sharedFunction, thisMachine } from 'interprocessor'

export const parse = sharedFunction('parse', (text) => {
  if (thisMachine().cpu.id === 2) throw new TypeError('CPU 2 dislikes this text')
  return text.length
})

/** Keeps its thread busy, as a long calculation would. */
export const calculate = sharedFunction('calculate', (ms) => {
  const end = performance.now() + ms
  while (performance.now() < end);
})
