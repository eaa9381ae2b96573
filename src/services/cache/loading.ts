/** One walk under way, and those who wait for it. */

import type { Key } from '../../hardware/tlb.ts'
import type { AbortSignalLike } from '../../kernel/suspended-wait.ts'
import { Fill } from '../../kernel/fills.ts'

/** A fill with a promise. */
export class Loading<V> extends Fill {
  /** What the walk gives. */
  promise!: Promise<V | undefined>
  readonly #controller = new AbortController()
  /** Those who wait, and cannot be told to stop. */
  #patient = 0
  /** Those who wait until their signal says otherwise. */
  #waiting = 0
  /** Called when nobody waits any more. */
  readonly #onLonely: (loading: Loading<V>) => void

  constructor(key: Key, onLonely: (loading: Loading<V>) => void) {
    super(key)
    this.#onLonely = onLonely
  }

  /** What the walk is told by. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Tells the walk that its result is worth nothing. */
  abort(reason: unknown): void {
    this.#controller.abort(reason)
  }

  /** What the walk gives, or the signal's reason if that comes first. */
  wait(signal: AbortSignalLike | undefined): Promise<V | undefined> {
    if (signal === undefined) {
      this.#patient++
      return this.promise
    }
    if (signal.aborted) {
      this.#leave(signal.reason)
      return Promise.reject(signal.reason)
    }
    this.#waiting++
    return new Promise((resolve, reject) => {
      const forget = (): void => signal.removeEventListener('abort', onAbort)
      const onAbort = (): void => {
        forget()
        this.#waiting--
        reject(signal.reason)
        this.#leave(signal.reason)
      }
      signal.addEventListener('abort', onAbort)
      this.promise.then(resolve, reject).finally(forget)
    })
  }

  #leave(reason: unknown): void {
    if (this.#patient > 0 || this.#waiting > 0) return
    this.#onLonely(this)
    this.abort(reason)
  }
}
