/** Every public name, for Node. */

import type { BootOptions, MachineOptions } from './kernel/config.ts'
import { bootOn, createMachineOn } from './kernel/boot.ts'
import type { Machine } from './kernel/machine.ts'
import { nodePlatform } from './platform/node.ts'
import type { StoreOptions } from './services/store/open-store.ts'
import type { SharedStore } from './services/store/shared-store.ts'
import { THREAD_SCRIPT } from './worker.ts'

/**
 * Makes a machine: this thread becomes CPU 0, `cpus - 1` worker threads become the others, each
 * importing `entry` first. Resolves when all are online. Rejects with `IPI_ALREADY_BOOTED`,
 * `IPI_INVALID_ARGUMENT`, or `IPI_BOOT_FAILED` with the cause; nothing is left running then.
 */
export async function boot(options: BootOptions = {}): Promise<Machine> {
  return bootOn(nodePlatform(THREAD_SCRIPT), options)
}

/**
 * Makes a machine with this thread as its only CPU, for workers that the application creates itself:
 * `machine.bringUp(worker)`. Throws `IPI_ALREADY_BOOTED`, `IPI_INVALID_ARGUMENT`.
 */
export function createMachine(options: MachineOptions = {}): Machine {
  return createMachineOn(nodePlatform(THREAD_SCRIPT), options, 1, undefined, {})
}

/**
 * Opens a store of keys and values in shared memory, the same for all threads of the machine that say the
 * same name: a Map that all have, and what a cache can read through to. Rejects with
 * `IPI_INVALID_ARGUMENT`, and as a call to CPU 0 does.
 */
export async function openStore<Value = unknown>(
  machine: Machine,
  options: StoreOptions,
): Promise<SharedStore<Value>> {
  // Loaded by whoever uses it: a thread that does not starts without.
  const { open } = await import('./services/store/open-store.ts')
  return open<Value>(machine, options)
}

export { attach } from './worker.ts'
export { moved, type Moved, type TaskResult } from './kernel/sched/task-values.ts'
export { createPool, type Pool } from './services/pool.ts'
export { TaskCancelledError, type CancelOutcome } from './services/pool/failure.ts'
export type { HistogramSummary, PoolHistogram } from './services/pool/histogram.ts'
export type { PooledFunction, PooledModule } from './services/pool/module.ts'
export type {
  CancelOptions,
  CloseOptions,
  PoolEvents,
  PoolOptions,
  PoolStats,
  RunOptions,
} from './services/pool/options.ts'
export { thisTask } from './services/pool/this-task.ts'
export type { RunningTask } from './kernel/sched/running-task.ts'
export type { Priority } from './kernel/sched/task.ts'
export { sharedFunction, thisMachine } from './kernel/attach.ts'
export { createCache, type Cache } from './services/cache.ts'
export type {
  CacheOptions,
  CacheStats,
  CacheType,
  FlushOptions,
  FlushResult,
  FlushWhat,
  OnFenced,
  Store,
  Walk,
  WalkContext,
} from './services/cache/options.ts'
export { CpuMask, type CpuSet } from './base/cpu-mask.ts'
export {
  IPI_ERROR_CODES,
  IpiError,
  isIpiError,
  type IpiErrorCode,
  type IpiErrorFacts,
} from './base/errors.ts'
export { SmpCallError, type Callable, type CallOptions } from './kernel/call.ts'
export { VECTOR } from './kernel/vectors.ts'
export type { Backtrace, BacktraceOptions, CpuActivity, CpuBacktrace } from './kernel/backtrace.ts'
export type { BootOptions, MachineOptions } from './kernel/config.ts'
export type { AddressSpace } from './kernel/address-space.ts'
export type { StopMachineOptions } from './kernel/control.ts'
export type { Cpu } from './kernel/cpu.ts'
export type { SharedFunction, SharedFunctionOptions } from './kernel/functions.ts'
export type { CpuDownOptions } from './kernel/hotplug.ts'
export type { HandlerRule, HandlerViolation } from './kernel/handler-checks.ts'
export type { HotplugState } from './kernel/hotplug-states.ts'
export type { IrqHandler, IrqOptions } from './kernel/idt.ts'
export type { Capabilities } from './kernel/forced.ts'
export type { NmiHandler, NmiRegs } from './kernel/nmi.ts'
export type { InterruptRow, InterruptTable } from './kernel/interrupts.ts'
export type { MachineEvents, StuckReport } from './kernel/kernel.ts'
export type { Lockup } from './kernel/lockup.ts'
export type { Machine } from './kernel/machine.ts'
export type { StoreOptions } from './services/store/open-store.ts'
export type { SharedStore, StoreStats, Versioned } from './services/store/shared-store.ts'
export type { StoreKey } from './services/store/encoding.ts'
export type { KeyRange } from './kernel/key-range.ts'
export type { Mtrr, MtrrAddOptions } from './kernel/mtrr.ts'
export type { MtrrRange, MtrrTable } from './kernel/mtrr-table.ts'
export type { MemoryType } from './hardware/mtrr.ts'
export type { ReplaceOptions } from './kernel/task-family.ts'
export type { AbortOptions, AbortOutcome } from './kernel/task-abort.ts'
export type { AbortedTask, TaskGuard } from './kernel/task-guard.ts'
export type {
  CallFrame,
  CpuProfile,
  MachineProfile,
  ProfileNode,
  ProfileOptions,
} from './kernel/profile.ts'
export type { StuckCall } from './kernel/watchdog.ts'
