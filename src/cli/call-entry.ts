/** What every CPU of `interprocessor call` imports: it shares what its own URL's query names. */

import { shareFromUrl } from './user-module.ts'

await shareFromUrl(import.meta.url)
