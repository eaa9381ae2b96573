/** Freezing what callers share, all the way down. */

/** Freezes plain objects and arrays, and what is in them. Others keep their own counsel. */
export function freezeDeep<T>(value: T): T {
  if (value === null || typeof value !== 'object' || Object.isFrozen(value)) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) return value
  Object.freeze(value)
  for (const each of Object.values(value)) freezeDeep<unknown>(each)
  return value
}
