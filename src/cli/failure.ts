/** The ways in which a command fails: wrong input ends with status 2, everything else with 1. */

/** The user asked for something that cannot be done; the message says what to do instead. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** A demonstration that found something else than it expected. */
export class DemoFailure extends Error {
  override readonly name = 'DemoFailure'
}

/** Stops a demonstration unless `condition` holds: what is shown has also been verified. */
export function verify(condition: boolean, failure: string): asserts condition {
  if (!condition) throw new DemoFailure(failure)
}
