/**
 * Making a machine, and joining one. Linux 2.6.11 `init/main.c` start_kernel and smp_init, as far as
 * a thread has anything of the kind.
 */

import { IpiError } from '../base/errors.ts'
import { raiseApicMapGeneration } from '../hardware/apic/page.ts'
import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import { MachineMemory } from '../hardware/machine-memory.ts'
import { add, store } from '../hardware/memory.ts'
import type { Platform, Thread } from '../hardware/platform.ts'
import { setupLocalApic } from './apic-setup.ts'
import type { SeenCpu } from './backtrace.ts'
import {
  checkCpuCount,
  createMemory,
  sharedOptions,
  type BootOptions,
  type MachineOptions,
} from './config.ts'
import { Control } from './control.ts'
import { bury } from './death.ts'
import { checkForcedEntry } from './forced.ts'
import { FunctionTable, type SharedFunction, type SharedFunctionOptions } from './functions.ts'
import { Hotplug, type StartThread } from './hotplug.ts'
import { Kernel } from './kernel.ts'
import { Machine, type BootPart } from './machine.ts'
import {
  BOOT_CPU,
  HOTPLUG_FUNCTIONS,
  isTicket,
  type HotplugReplay,
  type Ticket,
} from './protocol.ts'
import { openReplacement } from './replace.ts'
import { serveNamedMemory } from './named-memory.ts'
import { CLOSED } from './request.ts'
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

function threadState(): ThreadState {
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

function enterMachine(state: ThreadState, machine: Machine, kernel: Kernel): void {
  state.machine = machine
  state.look = (stack) => kernel.backtrace.look(stack)
}

function leaveMachine(state: ThreadState): void {
  state.machine = undefined
  state.look = undefined
}

/** Makes the memory and makes the calling thread CPU 0. */
export function createMachineOn(
  platform: Platform,
  options: MachineOptions,
  cpus: number,
  entry: string | undefined,
  workerOptions: object,
): Machine {
  const state = threadState()
  checkUnattached(state)
  const shared = sharedOptions(options)
  if (options.pollEveryLoop === true) platform.forced?.pollEveryLoop()
  const memory = createMemory(options, cpus)
  for (let cpu = 0; cpu < memory.cpuCount; cpu++) {
    store(memory.words, memory.cpuPage(cpu) + CPU.callQueue, CLOSED)
  }
  markPresent(memory)
  const start = (cpu: number): Thread =>
    platform.startThread({ name: `cpu${cpu}`, entry, workerOptions })
  const early = startEarly(cpus - 1, start)
  const kernel = new Kernel(memory, BOOT_CPU, platform, state.functions, shared)
  kernel.forced.open()
  if (shared.forceAfterMs !== Infinity) {
    checkForcedEntry(kernel.forced.capabilities, 'forceAfterMs')
  }
  const control = new Control(kernel, shared)
  const hotplug = new Hotplug(kernel, control, shared)
  setupLocalApic(kernel.cpu, kernel.senders.driver)
  kernel.mtrr.init()
  kernel.cpu.core.state = CPU_STATE.running
  kernel.driver.open()
  for (const mask of [HEADER.calloutMask, HEADER.callinMask, HEADER.commencedMask]) {
    memory.setCpu(mask, BOOT_CPU)
  }
  memory.setCpu(HEADER.onlineMask, BOOT_CPU)
  kernel.cpu.localIrqEnable()
  kernel.idle.start()
  kernel.lockup.start()
  const startThread: StartThread = (ticket, transfer) => {
    const thread = early.shift() ?? start(ticket.cpu)
    try {
      return handTo(thread)(ticket, transfer)
    } catch (error) {
      // The argument of a hotplug state cannot be cloned: this thread would wait for ever.
      void thread.terminate()
      throw error
    }
  }
  serveNamedMemory(kernel.functions)
  const boot: BootPart = {
    hotplug,
    startThread,
    replace: openReplacement(kernel, hotplug, startThread),
    adoptThread: (worker) => handTo(platform.adoptThread(worker)),
  }
  state.ready = shared.checkHandlers ? kernel.checkHandlers(shared.handlerBudgetMs) : undefined
  const machine = new Machine(kernel, control, boot, () => leaveMachine(state))
  enterMachine(state, machine, kernel)
  return machine
}

/**
 * Starts the threads of the first CPUs, before there is a machine: a thread needs ten times as long
 * to come to its ticket as this one needs to write it. One that cannot be started is left to its
 * bring-up, which tries again and says why.
 */
function startEarly(count: number, start: (cpu: number) => Thread): Thread[] {
  const threads: Thread[] = []
  try {
    while (threads.length < count) threads.push(start(BOOT_CPU + 1 + threads.length))
  } catch {
    // Its bring-up says why.
  }
  return threads
}

/** Makes a running thread the one that a bring-up asks for, by posting the ticket to it. */
function handTo(thread: Thread): StartThread {
  return (ticket, transfer) => {
    thread.post(ticket, transfer)
    return thread
  }
}

function markPresent(memory: MachineMemory): void {
  const incarnation = add(memory.words, HEADER.incarnation, 1) + 1
  store(memory.words, memory.cpuPage(BOOT_CPU) + CPU.incarnation, incarnation)
  memory.setCpu(HEADER.presentMask, BOOT_CPU)
  raiseApicMapGeneration(memory)
}

/** Makes a machine and brings up its CPUs; see `boot` in index.ts. */
export async function bootOn(platform: Platform, options: BootOptions): Promise<Machine> {
  const cpus = checkCpuCount(options.cpus ?? platform.processors)
  const { entry, workerOptions = {} } = options
  const module = entryModule(entry)
  const machine = createMachineOn(platform, options, cpus, module, workerOptions)
  try {
    await threadState().ready
    await machine.cpusUp(cpus - 1)
  } catch (error) {
    await machine.close()
    throw error
  }
  return machine
}

function entryModule(entry: BootOptions['entry']): string | undefined {
  if (entry === undefined || typeof entry === 'string') return entry
  if (entry !== null && typeof entry === 'object' && typeof entry.href === 'string') {
    return entry.href
  }
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    "entry is a URL or an absolute path: new URL('./tasks.js', import.meta.url)",
  )
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
