/** The shared store: who reads while somebody writes, and who writes when another has died of it. */

import { CPU, CPU_STATE, PAGE_WORDS } from '../../../src/hardware/layout.ts'
import type { Access } from '../../../src/testing.ts'
import { BLOCK, ORDER_MIN, STORE as WORD } from '../../../src/services/store/layout.ts'
import { StoreEncoder } from '../../../src/services/store/encoding.ts'
import type { SharedStore } from '../../../src/services/store/shared-store.ts'
import {
  go,
  now,
  type ExploredMachine,
  type KernelProgram,
} from '../../support/explorer-machine.ts'
import { auditStore } from '../../support/store-audit.ts'
import { expect, scenario, type KernelScenario } from '../scenario.ts'

/** The CPU whose block of memory the store has. */
const UNUSED = 3
/** Bytes of the smallest block. */
const SMALL_BYTES = 4 * 2 ** ORDER_MIN
const OPTIONS = { maxCpus: 4, slotCount: 4 } as const

/** What a thread reads of a key, in order. */
function* reads(
  store: SharedStore,
  key: string,
  times: number,
): Generator<Access, unknown[], number> {
  const seen: unknown[] = []
  while (seen.length < times) seen.push(yield* go(store.get(key)))
  return seen
}

/** Each write of a thread, one after the other. */
const writes = (
  store: SharedStore,
  entries: readonly (readonly [key: string, value?: unknown])[],
): KernelProgram =>
  function* () {
    for (const [key, value] of entries) {
      yield* go(value === undefined ? store.delete(key) : store.set(key, value))
    }
  }

/** A sentence if blocks are missing, or twice there. */
const booksOf = (machine: ExploredMachine): string | undefined => auditStore(storeWords(machine))

/** The memory of the store. */
function storeWords(machine: ExploredMachine): Int32Array<SharedArrayBuffer> {
  const first = now(machine.kernels[0]!.cpu.memory.apicPage(UNUSED))
  return new Int32Array(machine.words.buffer, 4 * first, 2 * PAGE_WORDS)
}

/** Whether what was read is a part of what there was, in its order. */
const inOrder = (seen: readonly unknown[], there: readonly unknown[]): boolean =>
  seen.every((value, i) => {
    const at = there.indexOf(value)
    return at >= 0 && (i === 0 || at >= there.indexOf(seen[i - 1]))
  })

/** The first key of a chain other than those of `not`, or of the chain of `like`. */
function keyOf(
  chains: number,
  { like, not = [] }: { like?: string; not?: readonly string[] },
): string {
  const encoder = new StoreEncoder(new Uint8Array(new SharedArrayBuffer(8)))
  const chainOf = (key: string): number => encoder.encodeKey(key) & (chains - 1)
  for (let i = 0; ; i++) {
    const key = `k${i}`
    if (like !== undefined ? key !== like && chainOf(key) === chainOf(like) : true) {
      if (!not.some((each) => chainOf(each) === chainOf(key))) return key
    }
  }
}

/** Leaves three small blocks of a new store: takes each size once or more, the largest first. */
function fill(store: SharedStore): void {
  for (let order = 11; order >= 4; order--) {
    const bytes = 4 * 2 ** order
    const left = (): number => {
      const { bytesMax, bytesTouched } = now(store.stats())
      return bytesMax - bytesTouched - 3 * SMALL_BYTES
    }
    const value = new Uint8Array(bytes - 4 * BLOCK.payload - 20)
    while (left() >= bytes) now(store.set(`${order} ${left()}`, value))
  }
}

export const STORE: readonly KernelScenario[] = [
  scenario(
    ['E-06'],
    'reads a key while it is written',
    2,
    2,
    (machine) => {
      const stores = machine.stores(storeWords(machine))
      now(stores[0]!.set('key', 'old'))
      let seen: unknown[] = []
      return {
        programs: [
          writes(stores[0]!, [
            ['key', 'new'],
            ['key', 'last'],
          ]),
          function* () {
            seen = yield* reads(stores[1]!, 'key', 3)
          },
        ],
        atEnd: () =>
          booksOf(machine) ??
          expect(inOrder(seen, ['old', 'new', 'last']), () => `saw ${seen.join()}`),
      }
    },
    OPTIONS,
  ),

  scenario(
    ['E-06', 'E-28'],
    'reads a key behind one whose block is used again',
    2,
    2,
    (machine) => {
      const stores = machine.stores(storeWords(machine))
      const chains = storeWords(machine)[WORD.bucketCount]!
      const before = keyOf(chains, {})
      const key = keyOf(chains, { like: before })
      const other = keyOf(chains, { not: [before] })
      fill(stores[0]!)
      for (const each of [before, key]) now(stores[0]!.set(each, each))
      // One more block is free: the one that is then given up is used again at once.
      let seen: unknown[] = []
      return {
        programs: [
          writes(stores[0]!, [
            [before, 'again'],
            [other, other],
          ]),
          function* () {
            seen = yield* reads(stores[1]!, key, 1)
          },
        ],
        atEnd: () => booksOf(machine) ?? expect(seen[0] === key, () => `saw ${String(seen[0])}`),
      }
    },
    { ...OPTIONS, clock: true },
  ),

  scenario(
    ['E-16'],
    'two write one key',
    1,
    2,
    (machine) => {
      const stores = machine.stores(storeWords(machine))
      const versions: (number | undefined)[] = []
      const write = (value: string): KernelProgram =>
        function* ({ cpu }) {
          versions.push(yield* go(stores[cpu.id]!.compareAndSet('key', 0, value)))
        }
      return {
        programs: [write('one'), write('other')],
        atEnd: () =>
          booksOf(machine) ??
          expect(
            versions.filter((version) => version === undefined).length === 1 &&
              now(stores[0]!.read('key'))?.version === versions.find(Boolean),
            () => versions.join(),
          ),
      }
    },
    OPTIONS,
  ),

  scenario(
    ['E-16', 'E-30'],
    'dies while it writes, and another reads and writes',
    1,
    2,
    (machine) => {
      const stores = machine.stores(storeWords(machine))
      now(stores[0]!.set('key', 'old'))
      let seen: unknown[] = []
      return {
        programs: [
          function* (kernel) {
            seen = yield* reads(stores[0]!, 'key', 1)
            yield* writes(stores[0]!, [['mine', 'mine']])(kernel)
            seen.push(...(yield* reads(stores[0]!, 'key', 1)))
          },
          writes(stores[1]!, [['key', 'new'], ['key']]),
        ],
        onDeath: (cpu) => {
          machine.write(machine.kernels[cpu]!.cpu.page + CPU.state, CPU_STATE.dead)
          machine.ring(0)
        },
        atEnd: () => {
          now(stores[0]!.set('last', 'last'))
          return (
            booksOf(machine) ??
            expect(
              inOrder(seen, ['old', 'new', undefined]) &&
                seen.length === 2 &&
                now(stores[0]!.get('mine')) === 'mine',
              () => `saw ${seen.join()}`,
            )
          )
        },
      }
    },
    { ...OPTIONS, mortal: [1] },
  ),
]
