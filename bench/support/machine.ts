/** A machine to measure, with a message port to each of its threads for the bare counterparts. */

import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads'
import { boot, type BootOptions, type Machine } from '../../src/index.ts'
import { pin, useScratch } from '../workers/cpu.ts'
import { Scratch } from './scratch.ts'

/** What a group measures with. */
export interface Bench {
  readonly machine: Machine
  readonly scratch: Scratch
  /** One per CPU but this one, ascending: the other end answers as `workers/cpu.ts` says. */
  readonly ports: readonly MessagePort[]
}

/** Boots a machine, hands it to `measure` and closes it. */
export async function withMachine<T>(
  options: BootOptions,
  measure: (bench: Bench) => Promise<T>,
): Promise<T> {
  const workers: Worker[] = []
  const collect = (worker: Worker): void => void workers.push(worker)
  process.on('worker', collect)
  const entry = new URL('../workers/cpu.js', import.meta.url)
  const machine = await boot({ ...options, entry })
  process.off('worker', collect)
  const ports = await Promise.all(workers.map(openPort))
  try {
    const scratch = new Scratch()
    await machine.onEachCpu(useScratch, scratch.buffer)
    for (const cpu of machine.onlineMask) await machine.smpCallFunctionSingle(cpu, pin, cpu)
    return await measure({ machine, scratch, ports })
  } finally {
    for (const port of ports) port.close()
    await machine.close()
  }
}

/** Opens a port to a thread; resolves when its other end has answered. */
function openPort(worker: Worker): Promise<MessagePort> {
  const { port1, port2 } = new MessageChannel()
  worker.postMessage({ port: port2 }, [port2])
  return new Promise((resolve) => port1.once('message', () => resolve(port1)))
}
