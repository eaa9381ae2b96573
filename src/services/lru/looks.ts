/**
 * Looks that missed, for caches that are filled by `get`, load, `set`. Nothing says which load a `set`
 * belongs to. So when a key is flushed, what is set of it is doubtful until every load that may have
 * begun before must have ended.
 */

import type { Key } from '../../hardware/tlb.ts'
import { Fill } from '../../kernel/fills.ts'
import type { Translations } from '../../kernel/translations.ts'

/** With more than these at once nothing that is set is trusted, until all their loads must have ended. */
const LOOKS_MAX = 100_000

/** The looks for one key. */
interface Look {
  /** Since the first one that is not doubtful. */
  fill: Fill
  /** When the last one was, in milliseconds. */
  at: number
  /** Until when a load may be under way that began before a flush. */
  doubtfulUntil: number
}

/** The looks of one thread that missed. */
export class Looks {
  readonly #space: Translations
  readonly #loadMs: number
  readonly #now: () => number
  /** The oldest first. */
  readonly #looks = new Map<Key, Look>()
  #doubtfulUntil = -Infinity

  /** `loadMs`: how long a load takes at most. */
  constructor(space: Translations, loadMs: number, now: () => number) {
    this.#space = space
    this.#loadMs = loadMs
    this.#now = now
  }

  /** A look has missed, and a load may begin. */
  missed(key: Key): void {
    const now = this.#now()
    this.#forgetOld(now)
    const look = this.#findChecked(key) ?? this.#begin(key, { doubtfulUntil: -Infinity })
    if (look.fill.fenced) this.#begin(key, look)
    look.at = now
    // To the end, behind all that are older.
    this.#looks.delete(key)
    this.#looks.set(key, look)
    if (this.#looks.size > LOOKS_MAX) this.#forgetAll(now)
  }

  /** Whether what is set now has not been read before a flush. */
  mayKeep(key: Key): boolean {
    this.#space.poll()
    const now = this.#now()
    this.#forgetOld(now)
    const doubtfulUntil = this.#findChecked(key)?.doubtfulUntil ?? -Infinity
    return now >= doubtfulUntil && now >= this.#doubtfulUntil
  }

  #findChecked(key: Key): Look | undefined {
    const look = this.#looks.get(key)
    if (look?.fill.fenced === true) look.doubtfulUntil = look.at + this.#loadMs
    return look
  }

  #begin(key: Key, look: Partial<Look> & Pick<Look, 'doubtfulUntil'>): Look {
    const fill = new Fill(key)
    // Where nothing may be kept, nothing that is read now may be kept later.
    if (!this.#space.begin(fill)) fill.fenced = true
    return Object.assign(look, { fill, at: 0 })
  }

  #forgetOld(now: number): void {
    for (const [key, look] of this.#looks) {
      if (now - look.at < this.#loadMs) return
      this.#looks.delete(key)
      this.#space.abandon(look.fill)
    }
  }

  #forgetAll(now: number): void {
    for (const { fill } of this.#looks.values()) this.#space.abandon(fill)
    this.#looks.clear()
    this.#doubtfulUntil = now + this.#loadMs
  }
}
