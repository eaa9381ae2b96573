/**
 * Shared memory by name, besides the machine's own: what services need that have to grow, and that not
 * every machine has. The boot CPU keeps it, and gives it to whoever asks. As POSIX shm_open.
 */

import type { FunctionTable } from './functions.ts'
import type { CallFunction } from './smp.ts'
import { BOOT_CPU } from './protocol.ts'

const NAMED_MEMORY = 'interprocessor.namedMemory'

interface Wanted {
  readonly name: string
  readonly bytes: number
}

/** On the boot CPU: from now on it answers. */
export function serveNamedMemory(functions: FunctionTable): void {
  const buffers = new Map<string, SharedArrayBuffer>()
  functions.register(NAMED_MEMORY, ({ name, bytes }: Wanted) => {
    let buffer = buffers.get(name)
    // Pages that nobody touches take no memory: so it has its largest size at once.
    if (buffer === undefined) buffers.set(name, (buffer = new SharedArrayBuffer(bytes)))
    return buffer
  })
}

/**
 * The memory of that name, the same for all CPUs: made with `bytes` bytes, all 0, by whoever asks first.
 * Not in handlers. Rejects as a call does, and with a RangeError if there is not so much memory.
 */
export async function namedMemory(
  calls: CallFunction,
  name: string,
  bytes: number,
): Promise<SharedArrayBuffer> {
  return (await calls.single(BOOT_CPU, NAMED_MEMORY, { name, bytes })) as SharedArrayBuffer
}
