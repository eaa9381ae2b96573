/** Every group of benchmarks by the name that the command line knows it by, in the order of a run. */

import * as cache from './cache.ts'
import { group as costs } from './costs.ts'
import * as everyone from './everyone.ts'
import * as oneWay from './one-way.ts'
import { group as forced } from './forced.ts'
import { group as polling } from './polling.ts'
import * as pools from './pools.ts'
import * as poolsControl from './pools-control.ts'
import { costs as poolsCosts } from './pools-costs.ts'
import { group as promises } from './promises.ts'
import { group as rendezvous } from './rendezvous.ts'
import { group as safepoint } from './safepoint.ts'
import { comebacks, staleReads } from './stale.ts'
import { group as store } from './store.ts'
import type { Group } from './support/group.ts'
import { group as units } from './units.ts'

export const GROUPS = {
  units,
  safepoint,
  polling,
  sleeping: oneWay.sleeping,
  turning: oneWay.turning,
  'all-sleeping': everyone.sleeping,
  'all-polling': everyone.polling,
  promises,
  forced,
  'stale-reads': staleReads,
  comebacks,
  rendezvous,
  store,
  costs,
  cache: cache.hits,
  'cache-flush': cache.flush,
  pools: pools.rates,
  'pools-payloads': pools.payloads,
  'pools-everybody': poolsControl.broadcast,
  'pools-urgent': poolsControl.urgent,
  'pools-abort': poolsControl.abort,
  'pools-costs': poolsCosts,
} satisfies Record<string, Group>

/** The name of a group. */
export type GroupName = keyof typeof GROUPS

/** Whether there is a group of that name. */
export function isGroupName(name: string): name is GroupName {
  return Object.hasOwn(GROUPS, name)
}
