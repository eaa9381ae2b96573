/** What is needed of an lru-cache, by the names that it has there. */

import { check } from '../cache/options.ts'

/** A cache as the package lru-cache makes it, from version 11 on. */
export interface LruCacheLike {
  /** How many entries it holds at most; 0: it is bounded by their size, or their age. */
  readonly max: number
  get(key: never, options?: never): unknown
  fetch(key: never, options?: never): Promise<unknown>
}

/** Methods that look at one key, which is their first argument. */
export const LOOKS = ['get', 'peek', 'has', 'getRemainingTTL', 'info'] as const

/** Methods that look at all entries. */
export const LOOKS_AT_ALL = [
  'entries',
  'rentries',
  'keys',
  'rkeys',
  'values',
  'rvalues',
  'find',
  'forEach',
  'rforEach',
  'dump',
  'pop',
] as const

const OTHERS = ['set', 'memo', 'fetch', 'delete', 'clear'] as const

/** Any method. */
export type Method = (...args: readonly unknown[]) => unknown

/** Its own methods, bound, before any is replaced. */
export type Methods = Readonly<
  Record<(typeof LOOKS | typeof LOOKS_AT_ALL | typeof OTHERS)[number], Method>
>

/** Collects the methods of a cache. Throws `IPI_INVALID_ARGUMENT` if it lacks one. */
export function methodsOf(lru: LruCacheLike): Methods {
  const methods = [...LOOKS, ...LOOKS_AT_ALL, ...OTHERS].map((name) => {
    const method: unknown = Reflect.get(lru, name)
    check(typeof method === 'function', `an lru-cache of version 11 has the method ${name}`, method)
    return [name, method.bind(lru) as Method]
  })
  return Object.fromEntries(methods) as Methods
}
