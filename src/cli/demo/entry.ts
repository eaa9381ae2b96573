/** What every CPU of a demonstration imports first: its own functions, and the user's if there are any. */

import { shareFromUrl } from '../user-module.ts'
import './cpu.ts'

await shareFromUrl(import.meta.url)
