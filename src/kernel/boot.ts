/**
 * Making a machine. Linux 2.6.11 `init/main.c` start_kernel and smp_init, as far as a thread has
 * anything of the kind. Threads that join one: kernel/attach.ts.
 */

import { IpiError } from '../base/errors.ts'
import { raiseApicMapGeneration } from '../hardware/apic/page.ts'
import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { add, store } from '../hardware/memory.ts'
import type { Platform, Thread } from '../hardware/platform.ts'
import { setupLocalApic } from './apic-setup.ts'
import { checkUnattached, enterMachine, leaveMachine, threadState } from './attach.ts'
import {
  checkCpuCount,
  createMemory,
  sharedOptions,
  type BootOptions,
  type MachineOptions,
} from './config.ts'
import { Control } from './control.ts'
import { checkForcedEntry } from './forced.ts'
import { Hotplug, type StartThread } from './hotplug.ts'
import { Kernel } from './kernel.ts'
import { Machine, type BootPart } from './machine.ts'
import { BOOT_CPU } from './protocol.ts'
import { openReplacement } from './replace.ts'
import { serveNamedMemory } from './named-memory.ts'
import { CLOSED } from './request.ts'

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
