/**
 * A worker that debugs the main thread: says when that has stopped, waits until it has taken an NMI all
 * the same, and lets it go on.
 */

import { Session } from 'node:inspector'
import { workerData } from 'node:worker_threads'
import { NMIS } from './forced-tasks.ts'
import { Board, WORD } from './machine-board.ts'

const board = new Board(workerData as SharedArrayBuffer)
const session = new Session()
// A session keeps no thread alive.
const alive = setInterval(() => undefined, 60_000)
session.connectToMainThread()
session.on('Debugger.paused', () => {
  board.add(WORD.entered)
  board.block(NMIS)
  board.add(WORD.done)
  session.post('Debugger.resume', () => {
    session.disconnect()
    clearInterval(alive)
  })
})
session.post('Debugger.enable', () => board.add(WORD.sent))
