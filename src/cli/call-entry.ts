/** What every CPU of `interprocessor call` imports first: the user's module, by its own URL's query. */

import { shareFromUrl } from './user-module.ts'

await shareFromUrl(import.meta.url)
