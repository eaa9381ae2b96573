// Tasks that give something away with their result.

import { moved, sharedFunction } from 'interprocessor'

let given = new ArrayBuffer(0)

export const giveAway = sharedFunction('giveAway', (size: number) => {
  given = new ArrayBuffer(size)
  return moved({ size, given }, [given])
})

export const giveAwayTwice = sharedFunction('giveAwayTwice', async (size: number) => {
  const bytes = new Uint8Array(size)
  await Promise.resolve()
  return moved(bytes, [bytes.buffer, bytes.buffer])
})

export const left = sharedFunction('left', () => given.byteLength)
