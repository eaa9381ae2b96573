// The four senders. None of them waits for anybody, so the receivers count in shared memory.

import { setTimeout as sleep } from 'node:timers/promises'
import { boot } from 'interprocessor'
import { handle } from './tasks.mjs'

const machine = await boot({ cpus: 4, entry: new URL('./tasks.mjs', import.meta.url) })
try {
  // A vector that nobody else in the machine has, and a handler for it on each CPU.
  const vector = machine.allocVector()
  const received = new Int32Array(new SharedArrayBuffer(4 * 4))
  await machine.onEachCpu(handle, { vector, received })

  const show = async (name, send, expected) => {
    received.fill(0)
    send()
    // A parked thread needs some microseconds to wake up.
    for (let ms = 0; ms < 1000 && received.join(' ') !== expected; ms++) await sleep(1)
    console.log(name.padEnd(18), 'CPUs 0 to 3 received', received.join(' '))
  }
  await show('sendIpiAll', () => machine.sendIpiAll(vector), '1 1 1 1')
  await show('sendIpiAllButSelf', () => machine.sendIpiAllButSelf(vector), '0 1 1 1')
  await show('sendIpiSelf', () => machine.sendIpiSelf(vector), '1 0 0 0')
  await show('sendIpiMask', () => machine.sendIpiMask([0, 2], vector), '1 0 1 0')

  // Counted all the while, as in /proc/interrupts.
  const table = machine.interrupts()
  console.log(`vector ${vector} was taken ${table.total(String(vector))} times`)
} finally {
  await machine.close()
}
