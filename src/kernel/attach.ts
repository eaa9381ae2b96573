/**
 * What a thread knows of the machine that it belongs to, and joining one: all that every thread needs.
 * Making one is CPU 0's alone, and stands in kernel/boot.ts, so that no other thread has to read it.
 */

import { IpiError } from '../base/errors.ts'
import { MachineMemory } from '../hardware/machine-memory.ts'
import type { Platform } from '../hardware/platform.ts'
import type { SeenCpu } from './backtrace.ts'
import { Control } from './control.ts'
import { bury } from './death.ts'
import { FunctionTable, type SharedFunction, type SharedFunctionOptions } from './functions.ts'
import { Kernel } from './kernel.ts'
import { Machine } from './machine.ts'
import { HOTPLUG_FUNCTIONS, isTicket, type HotplugReplay, type Ticket } from './protocol.ts'
import { Secondary } from './secondary.ts'

/** What one thread knows: its functions, and the machine that it belongs to. */
interface ThreadState {
  readonly functions: FunctionTable
  machine: Machine | undefined
  /** Asked by `interprocessor backtrace`, in the middle of this thread: kernel/backtrace.ts. */
  look: ((stack: string) => SeenCpu[]) | undefined
  /** What the machine loads that was made last. */
  ready: Promise<void> | undefined
}

/** One per thread, even if two copies of this library are loaded in it. */
const STATE_KEY = Symbol.for('interprocessor.thread.1')

/** What the calling thread knows. */
export function threadState(): ThreadState {
  const holder = globalThis as { [STATE_KEY]?: ThreadState }
  return (holder[STATE_KEY] ??= {
    functions: new FunctionTable(),
    machine: undefined,
    look: undefined,
    ready: undefined,
  })
}

/**
 * Shares a function under a name: every thread that evaluates this line can be asked to run it. Put
 * it into a module that all threads import. Throws `IPI_INVALID_ARGUMENT`, `IPI_DUPLICATE_FUNCTION`.
 */
export function sharedFunction<Info = unknown, Result = unknown>(
  name: string,
  fn: (info: Info) => Result,
  options?: SharedFunctionOptions,
): SharedFunction<Info, Result> {
  return threadState().functions.register(name, fn, options)
}

/** The machine that the calling thread belongs to. Throws `IPI_NOT_BOOTED` if there is none. */
export function thisMachine(): Machine {
  const { machine } = threadState()
  if (machine !== undefined) return machine
  throw new IpiError(
    'IPI_NOT_BOOTED',
    'this thread belongs to no machine: boot() or createMachine() here, or attach() in a worker',
  )
}

/** From now on the calling thread belongs to a machine. */
export function enterMachine(state: ThreadState, machine: Machine, kernel: Kernel): void {
  state.machine = machine
  state.look = (stack) => kernel.backtrace.look(stack)
}

/** And from now on to none. */
export function leaveMachine(state: ThreadState): void {
  state.machine = undefined
  state.look = undefined
}

/** Makes the calling thread the CPU that a ticket names; resolves once it is online. */
export async function attachOn(
  platform: Platform,
  ticket: Ticket,
  endThread: () => void,
): Promise<Machine> {
  const state = threadState()
  checkUnattached(state)
  const memory = MachineMemory.attach(ticket.buffer)
  const kernel = new Kernel(memory, ticket.cpu, platform, state.functions, ticket.options)
  for (const { cpu, port } of ticket.ports) kernel.values.setPort(cpu, platform.adoptPort(port))
  const control = new Control(kernel, ticket.options)
  const secondary = new Secondary(kernel, ticket.hotplugStates, ticket.options.bootTimeoutMs)
  const leave = (): void => {
    forgetExit()
    leaveMachine(state)
    kernel.shutDown(new IpiError('IPI_MACHINE_CLOSED', `CPU ${ticket.cpu} has left the machine`))
    kernel.waits.pin(false)
  }
  const forgetExit = platform.onThreadExit(() => {
    kernel.cpu.isBuried = true
    bury(kernel.cpu, ticket.cpu)
  })
  registerHotplug(kernel, secondary, () => {
    leave()
    endThread()
  })
  const machine = new Machine(kernel, control, undefined, () => undefined)
  enterMachine(state, machine, kernel)
  // An idle CPU has nothing that keeps its event loop turning: this does, until it leaves.
  kernel.waits.pin(true)
  try {
    if (ticket.options.checkHandlers) await kernel.checkHandlers(ticket.options.handlerBudgetMs)
    await secondary.powerOn()
    kernel.sched.openIfWanted()
  } catch (error) {
    // Tells the boot CPU, which else would wait for the deadline.
    bury(kernel.cpu, ticket.cpu)
    kernel.cpu.core.retire()
    leave()
    throw error
  }
  return machine
}

/** What the boot CPU asks of every other. */
function registerHotplug(kernel: Kernel, secondary: Secondary, leave: () => void): void {
  const { functions, cpu } = kernel
  functions.register(HOTPLUG_FUNCTIONS.takeCpuDown, () => {
    secondary.takeCpuDown()
    // After the answer to this very call, which is written when we return.
    cpu.platform.defer(leave)
  })
  functions.register(HOTPLUG_FUNCTIONS.setState, (state: HotplugReplay) =>
    secondary.setState(state),
  )
  functions.register(HOTPLUG_FUNCTIONS.removeState, (name: string) => secondary.removeState(name))
}

/** Throws `IPI_ALREADY_BOOTED` if the calling thread belongs to a machine. */
export function checkUnattached(state: ThreadState = threadState()): void {
  if (state.machine === undefined) return
  throw new IpiError(
    'IPI_ALREADY_BOOTED',
    `this thread is CPU ${state.machine.cpu.id} of a machine already; thisMachine() gives it, ` +
      'close() ends it',
    { cpu: state.machine.cpu.id },
  )
}

/** Finds the ticket in what `attach` was given: itself, or a property of a worker's data. */
export function findTicket(given: unknown): Ticket | undefined {
  if (given instanceof SharedArrayBuffer) {
    // Names what is wrong with memory that is not a machine's; a machine's alone is not enough.
    MachineMemory.attach(given)
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      'attach needs the ticket of machine.bringUp(worker), not the memory alone; call attach() ' +
        'without arguments in the worker',
    )
  }
  if (isTicket(given)) return given
  if (given === null || typeof given !== 'object') return undefined
  return Object.values(given).find(isTicket)
}
