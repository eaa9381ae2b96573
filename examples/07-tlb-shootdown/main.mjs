// Threads keep copies of what they have looked up. Before a change counts, every copy must be gone.

import { boot } from 'interprocessor'
import { translate, usePageTable } from './tasks.mjs'

const PAGE = 7
const machine = await boot({
  cpus: 4,
  entry: new URL('./tasks.mjs', import.meta.url),
  // As Linux 2.6.11 did it. By default threads look before each read, and need no interrupt.
  tlbDriver: 'tlbstate',
})
try {
  const pageTable = new Int32Array(new SharedArrayBuffer(64))
  await machine.onEachCpu(usePageTable, pageTable)
  const show = async (when) => {
    const frames = await machine.onEachCpu(translate, PAGE)
    console.log(when, [...frames.values()].join(' '))
  }

  Atomics.store(pageTable, PAGE, 100)
  await show('mapped to 100:')

  Atomics.store(pageTable, PAGE, 200)
  await show('changed to 200, not flushed:')

  // Asks only the CPUs that use this space, and returns when all of them have dropped their copy.
  const space = machine.addressSpace('example')
  console.log('CPUs that use the space:', String(space.cpuMask))
  await space.flushTlbPage(PAGE)
  await show('flushed:')

  console.log('TLB shootdowns:', machine.interrupts().total('TLB'))
} finally {
  await machine.close()
}
