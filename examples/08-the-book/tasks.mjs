import { sharedFunction } from 'interprocessor'

export const nothing = sharedFunction('nothing', () => undefined)

/** Keeps its CPU from taking interrupts for a while. */
export const keepBusy = sharedFunction('keepBusy', (ms) => {
  const end = performance.now() + ms
  while (performance.now() < end);
})
