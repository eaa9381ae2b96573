/**
 * The interrupt command register: what a CPU can ask of others in one word. Intel SDM vol. 3,
 * chapter "APIC", "Issuing Interprocessor Interrupts"; Linux include/asm-i386/apicdef.h.
 *
 *      31      20 19 18 17 16 15 14 13 12 11 10   8 7          0
 *     +----------+-----+-----+--+--+--+--+--+------+------------+
 *     | reserved |short| res |TM| L| r| S|DM| mode |   vector   |
 *     +----------+-----+-----+--+--+--+--+--+------+------------+
 *                 hand        |  |     |  logical destination
 *                             |  |     status: always 0 here, a message is posted when sent
 *                             |  assert
 *                             level-triggered
 */

import { FIRST_VECTOR } from './priority.ts'

/** Fields of the command. */
export const ICR = {
  vector: 0xff,
  mode: 7 << 8,
  /** The destination is matched against LDR, not the ID. */
  logical: 1 << 11,
  status: 1 << 12,
  assert: 1 << 14,
  level: 1 << 15,
  shorthand: 3 << 18,
  /** What software writes. The rest, but for `status`, is reserved. */
  writable: 0x000c_cfff,
} as const

/** Delivery modes, in place: of commands, and of entries of the local vector table. */
export const DELIVERY_MODE = {
  fixed: 0 << 8,
  lowestPriority: 1 << 8,
  smi: 2 << 8,
  /** On old parts; reserved on ours. */
  remoteRead: 3 << 8,
  nmi: 4 << 8,
  init: 5 << 8,
  startup: 6 << 8,
  /** Reserved in commands; ExtINT in the local vector table. */
  external: 7 << 8,
} as const

/** Destination shorthands, in place. With any but `none` the destination is ignored. */
export const SHORTHAND = {
  none: 0 << 18,
  self: 1 << 18,
  all: 2 << 18,
  allButSelf: 3 << 18,
} as const

const MODE_NAMES = [
  'fixed',
  'lowest-priority',
  'SMI',
  'remote-read',
  'NMI',
  'INIT',
  'start-up',
  'reserved',
]
const SHORTHAND_NAMES = ['a destination', 'self', 'all', 'all but self']

const modes = (...all: number[]): number => all.reduce((set, mode) => set | (1 << (mode >>> 8)), 0)
const EVERY = modes(
  DELIVERY_MODE.fixed,
  DELIVERY_MODE.lowestPriority,
  DELIVERY_MODE.smi,
  DELIVERY_MODE.nmi,
  DELIVERY_MODE.init,
  DELIVERY_MODE.startup,
)
const LEVEL = EVERY & ~modes(DELIVERY_MODE.smi, DELIVERY_MODE.startup)
const FIXED = modes(DELIVERY_MODE.fixed)

/**
 * The manual's table of valid commands ("Valid Combinations for the Pentium 4 Processors" and the
 * same for P6): the delivery modes that go with each shorthand. What either family leaves undefined
 * is not defined here.
 */
const DEFINED = [
  /* none         */ { edge: EVERY, level: LEVEL },
  /* self         */ { edge: FIXED, level: FIXED },
  /* all          */ { edge: FIXED, level: FIXED },
  /* all but self */ { edge: EVERY, level: LEVEL },
] as const

/**
 * INIT level de-assert: an old way to synchronise arbitration IDs. Defined with every shorthand but
 * self, and without effect.
 */
export function isInitDeassert(command: number): boolean {
  return (command & (ICR.mode | ICR.level | ICR.assert)) === (DELIVERY_MODE.init | ICR.level)
}

/** Whether the manual defines what a command does. */
export function isDefinedCommand(command: number): boolean {
  const shorthand = command & ICR.shorthand
  if (isInitDeassert(command)) return shorthand !== SHORTHAND.self
  const row = DEFINED[shorthand >>> 18]!
  const set = (command & ICR.level) !== 0 ? row.level : row.edge
  return (set & modes(command & ICR.mode)) !== 0
}

/** Whether a command's vector field is a vector, and one that no APIC takes. */
export function hasIllegalVector(command: number): boolean {
  const mode = command & ICR.mode
  const carriesVector = mode === DELIVERY_MODE.fixed || mode === DELIVERY_MODE.lowestPriority
  return carriesVector && (command & ICR.vector) < FIRST_VECTOR
}

/** A command in words, for messages: `level NMI to self, vector 2`. */
export function describeCommand(command: number): string {
  const trigger = (command & ICR.level) !== 0 ? 'level' : 'edge'
  const mode = MODE_NAMES[(command & ICR.mode) >>> 8]
  const target = SHORTHAND_NAMES[(command & ICR.shorthand) >>> 18]
  return `${trigger} ${mode} to ${target}, vector ${command & ICR.vector}`
}
