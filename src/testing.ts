/**
 * `interprocessor/testing`: explores the interleavings of a protocol on shared memory. A program is a
 * generator that yields its accesses; the explorer decides who goes on at each of them.
 */

export { Bus, WAIT_RESULT, type Access, type Operation, type Program } from './testing/access.ts'
export type { Choice, Event, Execution } from './testing/execution.ts'
export {
  explore,
  replay,
  type Exploration,
  type ExploreOptions,
  type FoundFailure,
} from './testing/explore.ts'
export type { Failure, FailureKind, Scenario, Setup, Watch } from './testing/scenario.ts'
export { Exhaustive, type ExhaustiveOptions } from './testing/strategies/exhaustive.ts'
export { Pct, type PctOptions } from './testing/strategies/pct.ts'
export { Random } from './testing/strategies/random.ts'
export type { Strategy } from './testing/strategy.ts'
export { formatFailure } from './testing/trace.ts'
