/** Everything that crosses threads by message, on one page. All else crosses in shared memory. */

/** The CPU that brings the others up, and hands them their ports to each other. */
export const BOOT_CPU = 0

/** What a thread needs to become a CPU: sent once, by whoever brings the CPU up. */
export interface Ticket {
  readonly kind: 'interprocessor.ticket'
  /** The machine's memory. */
  readonly buffer: SharedArrayBuffer
  /** The number that the thread shall have. */
  readonly cpu: number
  readonly options: SharedOptions
  /** What the other CPUs have set up, in order; a late joiner gets it before it is online. */
  readonly hotplugStates: readonly HotplugReplay[]
  /** One end of a channel to each other CPU. */
  readonly ports: readonly { readonly cpu: number; readonly port: unknown }[]
}

/** The options that all CPUs of a machine share. */
export interface SharedOptions {
  readonly timeoutMs: number
  readonly bootTimeoutMs: number
  readonly watchdogMs: number
  readonly haltPollMs: number
  readonly forceAfterMs: number
  readonly softLockupMs: number
  readonly hardLockupMs: number
  readonly checkHandlers: boolean
  readonly handlerBudgetMs: number
}

/** A hotplug state as a late joiner replays it: a function by name, and its argument. */
export interface HotplugReplay {
  readonly name: string
  readonly startup: string | undefined
  readonly teardown: string | undefined
  readonly info: unknown
}

/** Through the port between two CPUs. */
export type PortMessage =
  /** A value that did not fit its slot, paired with its request by half and ticket. */
  | {
      readonly kind: 'value'
      readonly half: 'info' | 'result' | 'taskInfo' | 'taskResult' | 'taskReport'
      readonly ticket: number
      readonly value: unknown
    }
  /** What a CPU does, for one that has asked: kernel/backtrace.ts. */
  | { readonly kind: 'report'; readonly report: unknown }
  /** From the boot CPU: a port to a CPU that came up after this one. */
  | { readonly kind: 'port'; readonly cpu: number; readonly port: unknown }

/** Whether a message is a ticket. */
export function isTicket(value: unknown): value is Ticket {
  return (
    value !== null &&
    typeof value === 'object' &&
    (value as { kind?: unknown }).kind === 'interprocessor.ticket'
  )
}

/** Names of the functions that every AP registers for the boot CPU. */
export const HOTPLUG_FUNCTIONS = {
  takeCpuDown: 'interprocessor.takeCpuDown',
  setState: 'interprocessor.hotplugSetState',
  removeState: 'interprocessor.hotplugRemoveState',
} as const
