/** The same tasks, written by hand: messages with ids. */

import { parentPort } from 'node:worker_threads'
import { echo, increment } from './pool-tasks.ts'

interface Message {
  readonly id: number
  readonly name: 'increment' | 'echo'
  readonly value: unknown
}

const port = parentPort!
port.on('message', ({ id, name, value }: Message) => {
  port.postMessage({ id, value: name === 'echo' ? echo(value) : increment(value as number) })
})
