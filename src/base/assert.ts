/** Two kinds of failure: a bug stops here with an AssertionError; the world's failures are IpiErrors. */

/** A broken invariant of this library itself. Whoever sees one has found a bug: please report it. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Stops with an {@link AssertionError} when an invariant does not hold. Callable in any context. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new AssertionError(`broken invariant: ${invariant}`)
}
