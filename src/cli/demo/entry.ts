/** What every CPU of a demonstration imports: its own functions, and the user's if there is one. */

import { shareFromUrl } from '../user-module.ts'
import './cpu.ts'

await shareFromUrl(import.meta.url)
