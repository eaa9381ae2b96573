/** A bus driver that makes bentocache coherent across the threads of a machine. */

export { machineBus, type BusTransport } from './services/adapters/bus.ts'
