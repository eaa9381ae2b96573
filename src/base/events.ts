/** A few listeners for a few events: enough of an emitter for rooms that know no environment. */

/** Listeners by event name; each event has one kind of details. */
export class Events<Map extends object> {
  readonly #listeners = new globalThis.Map<keyof Map, Set<(details: never) => void>>()
  readonly #onError: (event: keyof Map, error: unknown) => void

  /** `onError` is told what a listener threw: whoever emits must not suffer from it. */
  constructor(onError: (event: keyof Map, error: unknown) => void) {
    this.#onError = onError
  }

  /** Calls `listener` at every `event` from now on. */
  on<E extends keyof Map>(event: E, listener: (details: Map[E]) => void): void {
    let listeners = this.#listeners.get(event)
    if (listeners === undefined) this.#listeners.set(event, (listeners = new Set()))
    listeners.add(listener)
  }

  /** Undoes `on`. */
  off<E extends keyof Map>(event: E, listener: (details: Map[E]) => void): void {
    this.#listeners.get(event)?.delete(listener)
  }

  /** Whether anybody listens. */
  has(event: keyof Map): boolean {
    return (this.#listeners.get(event)?.size ?? 0) > 0
  }

  /** Calls the listeners in the order in which they came. */
  emit<E extends keyof Map>(event: E, details: Map[E]): void {
    const listeners = this.#listeners.get(event)
    if (listeners === undefined) return
    for (const listener of listeners) {
      try {
        ;(listener as (details: Map[E]) => void)(details)
      } catch (error) {
        this.#onError(event, error)
      }
    }
  }
}
