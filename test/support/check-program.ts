/** A program in the development mode in which a handler blocks, twice, and nobody listens. */

import { boot } from '../../src/index.ts'
import './check-tasks.ts'

const entry = new URL('./check-tasks.js', import.meta.url)
const machine = await boot({ cpus: 2, entry, checkHandlers: true })
for (let i = 0; i < 2; i++) await machine.smpCallFunctionSingle(1, 'sin.blocks')
await machine.close()
