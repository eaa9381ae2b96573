/**
 * The vector map of Linux 2.6.11, `include/asm-i386/mach-default/irq_vectors.h`, and the rules for
 * vectors that callers name.
 */

import { IpiError } from '../base/errors.ts'

/** Vectors that the kernel itself answers. The top five share priority class 15. */
export const VECTOR = {
  NMI: 0x02,
  SYSCALL_VECTOR: 0x80,
  LOCAL_TIMER_VECTOR: 0xef,
  THERMAL_APIC_VECTOR: 0xf0,
  CALL_FUNCTION_VECTOR: 0xfb,
  RESCHEDULE_VECTOR: 0xfc,
  INVALIDATE_TLB_VECTOR: 0xfd,
  ERROR_APIC_VECTOR: 0xfe,
  SPURIOUS_APIC_VECTOR: 0xff,
} as const

/** The first vector that is no processor exception. */
export const FIRST_EXTERNAL_VECTOR = 0x20
/** The first vector that `allocVector` hands out. */
export const FIRST_DEVICE_VECTOR = 0x31
/** From here on vectors belong to the kernel. */
export const FIRST_SYSTEM_VECTOR = VECTOR.LOCAL_TIMER_VECTOR
/** Gates in the interrupt descriptor table. */
export const GATE_COUNT = 256
/** The local APIC refuses vectors below this one (Intel SDM vol. 3, "Valid Interrupt Vectors"). */
export const FIRST_LEGAL_VECTOR = 0x10

/** Throws `IPI_INVALID_VECTOR` unless a sender may send `vector`. Any context. */
export function checkSendVector(vector: number): void {
  if (Number.isInteger(vector) && vector >= FIRST_LEGAL_VECTOR && vector < GATE_COUNT) return
  throw new IpiError(
    'IPI_INVALID_VECTOR',
    `${String(vector)} cannot be sent: the local APIC takes vectors 16 to 255; ` +
      'use allocVector() or one from 32 to 238',
    typeof vector === 'number' ? { vector } : {},
  )
}

/** Throws `IPI_INVALID_VECTOR` unless an application may own `vector`. Any context. */
export function checkDeviceVector(vector: number): void {
  if (isDeviceVector(vector)) return
  const why =
    vector === VECTOR.SYSCALL_VECTOR
      ? 'is the system-call vector'
      : vector >= FIRST_SYSTEM_VECTOR && vector < GATE_COUNT
        ? 'belongs to the kernel'
        : 'is no vector for handlers'
  throw new IpiError(
    'IPI_INVALID_VECTOR',
    `vector ${String(vector)} ${why}; use allocVector() or one from ${FIRST_EXTERNAL_VECTOR} to ` +
      `${FIRST_SYSTEM_VECTOR - 1} other than 128`,
    typeof vector === 'number' ? { vector } : {},
  )
}

/** Whether an application may own `vector`. */
export function isDeviceVector(vector: number): boolean {
  return (
    Number.isInteger(vector) &&
    vector >= FIRST_EXTERNAL_VECTOR &&
    vector < FIRST_SYSTEM_VECTOR &&
    vector !== VECTOR.SYSCALL_VECTOR
  )
}
