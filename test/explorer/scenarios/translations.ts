/**
 * Copies of translations, and flushes: what docs/coherence.md promises. The authority is a word, its value a
 * version that only grows; another word, the floor, is the version whose flush has returned.
 */

import { Fill } from '../../../src/kernel/fills.ts'
import { TLB, TLB_STATE } from '../../../src/hardware/layout.ts'
import { FLUSH, type Flush } from '../../../src/kernel/flush-log.ts'
import type { Kernel } from '../../../src/kernel/kernel.ts'
import type { FlushLevel } from '../../../src/kernel/shootdown.ts'
import type { GenerationTlb } from '../../../src/kernel/tlb-generations.ts'
import type { Translations } from '../../../src/kernel/translations.ts'
import type { Access } from '../../../src/testing.ts'
import {
  awaits,
  go,
  now,
  type ExploredMachine,
  type KernelProgram,
} from '../../support/explorer-machine.ts'
import {
  bus,
  counting,
  expect,
  fateOf,
  FIRST,
  halts,
  idle,
  scenario,
  sends,
  spaceOf,
  WORK,
  type KernelScenario,
} from '../scenario.ts'

/** The pages of the stories. */
const KEY = 7
const OTHER = 8
const keyFlush = (page: number): Flush => ({ kind: FLUSH.key, from: page, to: 0 })

type Steps<T = void> = Generator<Access, T, number>

/** A space, its authority, and what was seen of it. */
class Oracle {
  readonly mm: number
  readonly #machine: ExploredMachine
  readonly #at: number
  /** What was broken first. */
  failure: string | undefined

  constructor(machine: ExploredMachine, ...users: number[]) {
    this.#machine = machine
    this.#at = machine.kernels[0]!.cpu.page + WORK + 2
    this.mm = spaceOf(machine)
    for (const user of users) {
      const space = this.space(machine.kernels[user]!)
      // As it is in the turn in which it has read: active, with a copy of version 0.
      now(space.poll())
      const fill = new Fill(KEY)
      now(space.begin(fill))
      now(space.end(fill, 0))
    }
  }

  get authority(): number {
    return this.#at
  }
  /** The version whose flush has returned. */
  get floor(): number {
    return this.#at + 1
  }
  /** The version after whose flush no active CPU has an older copy. */
  get dropped(): number {
    return this.#at + 2
  }
  /** The newest version that anybody was given. */
  get given(): number {
    return this.#at + 3
  }

  tlb({ tlb }: Kernel): GenerationTlb {
    return tlb as GenerationTlb
  }

  space(kernel: Kernel): Translations {
    return now(this.tlb(kernel).space(this.mm))
  }

  fail(why: string): void {
    this.failure ??= why
  }

  /** What a look-up gives, or else a walk, kept if it may be. */
  *read(kernel: Kernel, key = KEY): Steps<number> {
    const space = this.space(kernel)
    const held = yield* go(space.find(key))
    if (held !== undefined) return held.value as number
    const fill = new Fill(key)
    const mayKeep = yield* go(space.begin(fill))
    const value = yield bus().load(this.authority)
    if (mayKeep) yield* go(space.end(fill, value))
    return value
  }

  /** I1: a read that begins when the floor is so high gives no less. */
  *checkedRead(kernel: Kernel, key = KEY): Steps {
    const floor = yield bus().load(this.floor)
    const value = yield* this.read(kernel, key)
    if (value < floor) this.fail(`CPU ${kernel.cpu.id} read ${value} after the flush of ${floor}`)
  }

  /** I3: an active CPU, between its look-ups, has no copy that a flush has dropped. */
  *checkCopy(kernel: Kernel, key = KEY): Steps {
    const least = yield bus().load(this.dropped)
    const copy = now(this.space(kernel).buffer.peek(key))?.value as number | undefined
    if (copy !== undefined && copy < least) {
      this.fail(`CPU ${kernel.cpu.id} is active and holds ${copy} after ${least} was dropped`)
    }
  }

  /** I3, from outside: of a CPU that gets lazy once, and not active again. */
  checkActive(kernel: Kernel, least: number): void {
    const { cpu } = kernel
    const state = this.#machine.words[now(cpu.memory.tlbLine(cpu.id, this.mm)) + TLB.state]
    const copy = now(this.space(kernel).buffer.peek(KEY))?.value as number | undefined
    if (state !== TLB_STATE.active || copy === undefined || copy >= least) return
    this.fail(`CPU ${cpu.id} is active and holds ${copy} when the flush of ${least} returns`)
  }

  /** Changes the authority. */
  *change(version: number): Steps {
    yield bus().store(this.authority, version)
  }

  /** Flushes keys, and says so when that is over. */
  *flush(
    kernel: Kernel,
    version: number,
    level: FlushLevel,
    { wakeLazy = false, flushes = [keyFlush(KEY)], blocking = true } = {},
  ): Steps {
    const request = yield* go(this.tlb(kernel).shootDown(this.mm, flushes, { level, wakeLazy }))
    yield bus().store(this.floor, version)
    if (blocking) yield* go(kernel.flushes.block(request))
    else yield* awaits(kernel.flushes.until(request))
    if (level !== 'visible') yield bus().store(this.dropped, version)
  }

  readonly failures = (): string | undefined => this.failure

  /** I4: nobody has applied what was not published, nor acknowledged what it has not applied. */
  readonly inOrder = (): string | undefined => {
    if (this.failure !== undefined) return this.failure
    for (const kernel of this.#machine.kernels) {
      if (!this.tlb(kernel).uses(this.mm)) continue
      const space = this.space(kernel)
      const { cpu } = kernel
      const ack = this.#machine.words[now(cpu.memory.tlbLine(cpu.id, this.mm)) + TLB.ack]!
      const published = this.#machine.words[space.log.published.byteOffset / 4]!
      if (ack > space.generation || space.generation > published) {
        return `CPU ${cpu.id}: acknowledged ${ack}, applied ${space.generation}, published ${published}`
      }
    }
    return undefined
  }
}

/** Reads so often, with a look at its copy after each. */
const reads = (oracle: Oracle, times: number): KernelProgram =>
  function* (kernel) {
    for (let i = 0; i < times; i++) {
      yield* oracle.checkedRead(kernel)
      yield* oracle.checkCopy(kernel)
    }
  }

const changes = (oracle: Oracle, level: FlushLevel, version = 1): KernelProgram =>
  function* (kernel) {
    yield* oracle.change(version)
    yield* oracle.flush(kernel, version, level)
  }

/** Opens a gate, and waits until somebody has gone through it. */
function* passGate(at: number): Steps {
  yield bus().store(at, 1)
  while ((yield bus().load(at)) !== 2) yield bus().pause()
}

/** Waits for a gate to open. */
function* enterGate(at: number): Steps {
  while ((yield bus().load(at)) !== 1) yield bus().pause()
}

/** Lets the one go on that has opened it. */
function* leaveGate(at: number): Steps {
  yield bus().store(at, 2)
}

export const TRANSLATIONS: readonly KernelScenario[] = [
  scenario(['I1', 'I2', 'I4', 'E-18'], 'reads while another flushes (visible)', 2, 2, (machine) => {
    const oracle = new Oracle(machine, 1)
    return {
      programs: [changes(oracle, 'visible'), reads(oracle, 2)],
      invariant: oracle.inOrder,
    }
  }),

  scenario(
    ['I1', 'I3', 'I11', 'E-26'],
    'reads while another flushes (dropped)',
    1,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 1)
      return {
        programs: [
          function* (kernel) {
            yield* changes(oracle, 'dropped')(kernel)
            oracle.checkActive(machine.kernels[1]!, 1)
          },
          reads(oracle, 2),
        ],
        invariant: oracle.inOrder,
      }
    },
  ),

  scenario(
    ['I3', 'I11', 'E-19', 'E-24'],
    'gets lazy and active again while another flushes',
    1,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 1)
      return {
        programs: [
          changes(oracle, 'dropped'),
          function* (kernel) {
            const space = oracle.space(kernel)
            yield* go(space.goLazy(false))
            yield* oracle.checkedRead(kernel)
            yield* oracle.checkCopy(kernel)
            yield* go(space.goLazy(true))
            yield* oracle.checkedRead(kernel)
            yield* oracle.checkCopy(kernel)
          },
        ],
        invariant: oracle.inOrder,
      }
    },
  ),

  scenario(['I3', 'E-19'], 'gets active while another flushes', 2, 2, (machine) => {
    const oracle = new Oracle(machine, 1)
    now(oracle.space(machine.kernels[1]!).goLazy(false))
    return {
      programs: [changes(oracle, 'dropped'), reads(oracle, 1)],
      invariant: oracle.inOrder,
    }
  }),

  scenario(['I11'], 'sleeps with a copy, and is interrupted to drop it', 1, 2, (machine) => {
    const oracle = new Oracle(machine, 1)
    const counts = counting(machine.kernels[1]!, FIRST)
    return {
      programs: [
        function* (kernel) {
          yield* oracle.change(1)
          yield* oracle.flush(kernel, 1, 'dropped')
          yield* sends(1, FIRST)(kernel)
        },
        halts(() => counts.get(FIRST)! > 0),
      ],
      invariant: oracle.inOrder,
    }
  }),

  scenario(['I11'], 'two await each other to drop what both have read', 1, 2, (machine) => {
    const oracle = new Oracle(machine, 0, 1)
    const flushes: KernelProgram = function* (kernel) {
      yield* oracle.checkedRead(kernel)
      yield* oracle.change(1)
      yield* oracle.flush(kernel, 1, 'dropped', { blocking: false })
      yield* oracle.checkedRead(kernel)
    }
    return { programs: [flushes, flushes], invariant: oracle.inOrder }
  }),

  scenario(['I11'], 'two block to have dropped what both have read', 1, 2, (machine) => {
    const oracle = new Oracle(machine, 0, 1)
    const flushes: KernelProgram = function* (kernel) {
      yield* oracle.change(1)
      yield* oracle.flush(kernel, 1, 'dropped')
      yield* oracle.checkedRead(kernel)
    }
    return { programs: [flushes, flushes], invariant: oracle.inOrder }
  }),

  scenario(['I3', 'E-28'], 'a lazy one is woken to drop what it has', 1, 2, (machine) => {
    const oracle = new Oracle(machine, 1)
    const reader = oracle.space(machine.kernels[1]!)
    now(reader.goLazy(false))
    return {
      programs: [
        function* (kernel) {
          yield* oracle.change(1)
          yield* oracle.flush(kernel, 1, 'dropped', { wakeLazy: true })
          // Whatever its copies point to is used again.
          if (now(reader.buffer.peek(KEY))?.value === 0) oracle.fail('the lazy one has its copy')
        },
        idle,
      ],
      invariant: oracle.inOrder,
    }
  }),

  scenario(
    ['I3'],
    'nothing runs any more that has read the old one (quiesced)',
    1,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 1)
      let uses = false
      return {
        programs: [
          function* (kernel) {
            yield* oracle.change(1)
            yield* oracle.flush(kernel, 1, 'quiesced')
            if (uses) oracle.fail('the turn that has read the old one goes on')
          },
          function* (kernel) {
            uses = (yield* oracle.read(kernel)) === 0
            // Looks again, and has the new one; but what it has read it still works with.
            yield* oracle.read(kernel)
            yield bus().load(oracle.floor)
            uses = false
          },
        ],
        invariant: oracle.inOrder,
      }
    },
  ),

  scenario(
    ['I6', 'E-18'],
    'asks twice while another flushes, and may share the walk',
    2,
    2,
    (machine) => {
      const oracle = new Oracle(machine)
      return {
        programs: [
          changes(oracle, 'visible'),
          function* (kernel) {
            const space = oracle.space(kernel)
            const fill = new Fill(KEY)
            const mayKeep = yield* go(space.begin(fill))
            const value = yield bus().load(oracle.authority)
            // Somebody else of this thread asks, before the walk is over.
            const floor = yield bus().load(oracle.floor)
            const joined = yield* go(space.findFill(KEY))
            if (joined === fill && value < floor) oracle.fail(`joined ${value} after ${floor}`)
            if (mayKeep) yield* go(space.end(fill, value))
            yield* oracle.checkedRead(kernel)
          },
        ],
        invariant: oracle.inOrder,
      }
    },
  ),

  scenario(
    ['I1', 'I5', 'E-27'],
    'falls behind by more than the log has',
    1,
    2,
    (machine) => {
      const oracle = new Oracle(machine)
      return {
        programs: [
          function* (kernel) {
            yield* oracle.change(1)
            yield* oracle.flush(kernel, 1, 'visible')
            yield* oracle.flush(kernel, 1, 'visible', { flushes: [keyFlush(OTHER)] })
          },
          reads(oracle, 2),
        ],
        invariant: oracle.inOrder,
      }
    },
    { flushLogSize: 1 },
  ),

  scenario(
    ['I1', 'I5'],
    'publishes past a record that is being written',
    2,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 0)
      const { log } = oracle.space(machine.kernels[0]!)
      // What stands in the ring from the round before must not be taken for what is to come.
      now(log.append([keyFlush(OTHER), keyFlush(OTHER)]))
      now(oracle.space(machine.kernels[0]!).poll())
      return {
        programs: [
          function* (kernel) {
            yield* oracle.flush(kernel, 0, 'visible', { flushes: [keyFlush(OTHER)] })
            yield* oracle.checkedRead(kernel)
          },
          changes(oracle, 'visible'),
        ],
        invariant: oracle.inOrder,
      }
    },
    { flushLogSize: 2 },
  ),

  ...[1, 2].map((flushLogSize) =>
    scenario(
      ['I1', 'I5', 'E-27'],
      `two flush while a third reads (log of ${flushLogSize})`,
      1,
      3,
      (machine) => {
        const oracle = new Oracle(machine, 2)
        return {
          programs: [
            changes(oracle, 'visible'),
            function* (kernel) {
              yield* oracle.flush(kernel, 0, 'visible', { flushes: [keyFlush(OTHER)] })
              yield* oracle.flush(kernel, 0, 'visible', { flushes: [keyFlush(OTHER)] })
            },
            reads(oracle, 2),
          ],
          invariant: oracle.inOrder,
        }
      },
      { flushLogSize },
    ),
  ),

  scenario(['I7', 'E-18'], 'joins while another flushes', 1, 2, (machine) => {
    const oracle = new Oracle(machine)
    return {
      programs: [
        changes(oracle, 'dropped'),
        function* (kernel) {
          const space = yield* go(oracle.tlb(kernel).space(oracle.mm))
          yield* go(space.poll())
          yield* oracle.checkedRead(kernel)
          yield* oracle.checkCopy(kernel)
        },
      ],
      invariant: oracle.failures,
    }
  }),

  scenario(
    ['I12', 'I5'],
    'ends in the middle of a flush; whoever goes on sees what it had begun',
    1,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 0)
      const fate = fateOf(machine, 1)
      const { log } = oracle.space(machine.kernels[0]!)
      return {
        programs: [
          function* (kernel) {
            yield* fate.known(kernel)
            const begun = machine.words[log.published.byteOffset / 4 + 16] !== 0
            const value = yield* oracle.read(kernel)
            if (begun && value === 0) oracle.fail('what the dead had reserved was passed over')
            yield* oracle.change(2)
            yield* oracle.flush(kernel, 2, 'visible')
            yield* oracle.checkedRead(kernel)
          },
          function* (kernel) {
            yield* oracle.change(1)
            yield* oracle.flush(kernel, 1, 'visible')
            yield* fate.ends()
          },
        ],
        onDeath: fate.onDeath,
        invariant: oracle.inOrder,
      }
    },
    { mortal: [1] },
  ),

  scenario(
    ['I11'],
    'waits for one that dies while it reads',
    1,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 1)
      const reader = reads(oracle, 2)
      return {
        programs: [
          function* (kernel) {
            yield* oracle.change(1)
            yield* oracle.flush(kernel, 1, 'dropped', { blocking: false })
          },
          function* (kernel) {
            yield* reader(kernel)
          },
        ],
        invariant: oracle.failures,
      }
    },
    { mortal: [1] },
  ),

  scenario(['I8', 'I9'], 'a broken key is one value for all', 1, 3, (machine) => {
    // One has a copy, one walks.
    const oracle = new Oracle(machine, 1)
    const looks: KernelProgram = function* (kernel) {
      for (let i = 0; i < 2; i++) {
        const least = yield bus().load(oracle.given)
        const value = yield* oracle.read(kernel)
        if (value < least) oracle.fail(`CPU ${kernel.cpu.id} read ${value} after ${least} was read`)
        if (value > least) yield bus().store(oracle.given, value)
      }
    }
    return {
      programs: [
        function* (kernel) {
          const tlb = oracle.tlb(kernel)
          const space = oracle.space(kernel)
          const place = yield* go(tlb.breakKey(space, KEY))
          yield* oracle.change(1)
          yield* go(tlb.makeKey(space, KEY, place))
        },
        looks,
        looks,
      ],
      invariant: oracle.inOrder,
    }
  }),

  scenario(
    ['I8'],
    'falls behind while a key is broken, and walks for it',
    1,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 1)
      const { buffer } = oracle.space(machine.kernels[1]!)
      return {
        programs: [
          function* (kernel) {
            const tlb = oracle.tlb(kernel)
            const space = oracle.space(kernel)
            const place = yield* go(tlb.breakKey(space, KEY))
            yield* oracle.flush(kernel, 0, 'visible', { flushes: [keyFlush(OTHER)] })
            yield* passGate(oracle.given)
            yield* oracle.change(1)
            yield* go(tlb.makeKey(space, KEY, place))
            yield bus().store(oracle.floor, 1)
          },
          function* (kernel) {
            yield* oracle.read(kernel)
            yield* enterGate(oracle.given)
            yield* oracle.read(kernel)
            if (now(buffer.peek(KEY)) !== undefined) oracle.fail('a broken key was kept')
            yield* leaveGate(oracle.given)
            yield* oracle.checkedRead(kernel)
          },
        ],
        invariant: oracle.inOrder,
      }
    },
    { flushLogSize: 1 },
  ),

  scenario(
    ['I8', 'I12'],
    'dies with a broken key, which is whole again',
    0,
    2,
    (machine) => {
      const oracle = new Oracle(machine, 0)
      const fate = fateOf(machine, 1)
      let kept = true
      return {
        programs: [
          function* (kernel) {
            yield* oracle.read(kernel)
            yield* fate.known(kernel)
            yield* oracle.read(kernel)
            yield* oracle.read(kernel)
            kept = now(oracle.space(kernel).buffer.peek(KEY)) !== undefined
          },
          function* (kernel) {
            const tlb = oracle.tlb(kernel)
            const space = oracle.space(kernel)
            const place = yield* go(tlb.breakKey(space, KEY))
            yield* oracle.change(1)
            yield* go(tlb.makeKey(space, KEY, place))
            yield* fate.ends()
          },
        ],
        onDeath: fate.onDeath,
        invariant: oracle.inOrder,
        atEnd: () => expect(kept, () => 'nobody keeps the key any more'),
      }
    },
    { mortal: [1] },
  ),

  scenario(
    ['I8', 'E-24'],
    'is interrupted when a key is broken that it is about to fill',
    0,
    2,
    (machine) => {
      const oracle = new Oracle(machine)
      let broken = false
      now(oracle.space(machine.kernels[1]!).poll())
      return {
        programs: [
          function* (kernel) {
            const tlb = oracle.tlb(kernel)
            const space = oracle.space(kernel)
            const place = yield* go(tlb.breakKey(space, KEY))
            broken = true
            // With an interrupt, which breaking alone does not send.
            yield* oracle.flush(kernel, 0, 'dropped', { flushes: [keyFlush(OTHER)] })
            broken = false
            yield* go(tlb.makeKey(space, KEY, place))
          },
          function* (kernel) {
            const space = oracle.space(kernel)
            yield* oracle.read(kernel)
            const kept = now(space.buffer.peek(KEY)) !== undefined
            if (broken && kept && space.generation > 0) oracle.fail('a broken key was kept')
          },
        ],
        invariant: oracle.inOrder,
      }
    },
    { interruptible: [1] },
  ),

  scenario(
    ['I1', 'E-24'],
    'is interrupted to drop what it has just read',
    0,
    2,
    (machine) => {
      const oracle = new Oracle(machine)
      now(oracle.space(machine.kernels[1]!).poll())
      return {
        programs: [
          changes(oracle, 'dropped'),
          function* (kernel) {
            yield* oracle.read(kernel)
            yield* oracle.checkedRead(kernel)
          },
        ],
        invariant: oracle.inOrder,
      }
    },
    { interruptible: [1] },
  ),
]
