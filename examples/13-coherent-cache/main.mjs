// Each thread caches for itself, and after a flush no thread can have the old value.

import { setTimeout as sleep } from 'node:timers/promises'
import { boot } from 'interprocessor'
import { look, open, prices, sell, warm } from './tasks.mjs'

const machine = await boot({ cpus: 4, entry: new URL('./tasks.mjs', import.meta.url) })
const memory = new SharedArrayBuffer(64)
const table = new Int32Array(memory)
const ARTICLE = 7
table[ARTICLE] = 100
await machine.cpuhpSetupState('prices', { startup: open }, memory)

const print = async (what) => {
  const seen = [...(await machine.onEachCpu(look, ARTICLE)).values()]
  console.log(`${what}: ${seen.map((cents) => cents ?? 'nothing').join(', ')}`)
}

await machine.onEachCpu(warm, ARTICLE)
await sleep(50)
await print('each thread has its own copy')

// CPU 1 computes from now on, and looks at no message.
await machine.smpCallFunctionSingle(1, sell, { article: ARTICLE, from: 100 })
await sleep(50)

table[ARTICLE] = 120 // the authority first
await prices().flush(ARTICLE) // then everybody forgets, CPU 1 in the middle of its loop
await print('after the flush')
console.log(`asked again: ${(await prices().fetch(ARTICLE)).cents}`)

await prices().mutate(ARTICLE, async () => {
  table[ARTICLE] = 150 // nobody has a copy while this runs
})
console.log(`after mutate: ${(await prices().fetch(ARTICLE)).cents}`)
await machine.close()
