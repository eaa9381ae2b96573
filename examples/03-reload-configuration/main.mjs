// Reload the configuration in every thread, and give it to those that join later, too.

import { boot } from 'interprocessor'
import { logLevel, setConfig } from './tasks.mjs'

const entry = new URL('./tasks.mjs', import.meta.url)
const machine = await boot({ cpus: 3, maxCpus: 4, entry })
try {
  const show = async (when) => {
    const levels = await machine.onEachCpu(logLevel)
    console.log(when, [...levels].map(([cpu, level]) => `CPU ${cpu}: ${level}`).join(', '))
  }

  // Not a plain call: the machine remembers it, and runs it on each late joiner, too.
  const configure = (config) => machine.cpuhpSetupState('config', { startup: setConfig }, config)

  await configure({ logLevel: 'info' })
  await show('at first:')

  // The same name again replaces what was set up. When this returns, no thread has the old one.
  await configure({ logLevel: 'debug' })
  await show('reloaded:')

  const cpu = await machine.cpuUp()
  await show(`CPU ${cpu} joined:`)
} finally {
  await machine.close()
}
