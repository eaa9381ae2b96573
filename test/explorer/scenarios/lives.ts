/** Coming up, leaving and dying. */

import type { IpiError } from '../../../src/base/errors.ts'
import type { Kernel } from '../../../src/kernel/kernel.ts'
import type { TlbStateDriver } from '../../../src/kernel/tlbstate.ts'
import type { Access } from '../../../src/testing.ts'
import { awaits, go, now, type ExploredMachine } from '../../support/explorer-machine.ts'
import {
  answerTo,
  bus,
  DIED,
  expect,
  fateOf,
  FIRST,
  idle,
  outcome,
  scenario,
  share,
  sharing,
  spaceOf,
  WORK,
  type KernelScenario,
} from '../scenario.ts'

/** Brings CPU 1 up again, until it is online. */
function* bringUp(machine: ExploredMachine, by: Kernel): Generator<Access, void, number> {
  yield* machine.callOut(by, 1)
  while (!(yield* go(by.cpu.isOnline(1)))) yield* go(by.cpu.cpuRelax())
}

const deaths = (['queue', 'callData'] as const).flatMap((callDriver) => [
  scenario(
    ['E-32'],
    `dies while it is asked (${callDriver})`,
    0,
    2,
    (machine) => {
      const calls = sharing(machine)
      let end = ''
      return {
        programs: [
          function* ({ calls: family }) {
            end = yield* outcome(() => awaits(family.single(1, 'f', 7)))
          },
          idle,
        ],
        atEnd: () =>
          expect(
            (end === 'answer 7 done' || end === 'IPI_CPU_DIED' || end === 'IPI_CPU_OFFLINE') &&
              calls.length <= 1,
            () => `${end}, ran ${calls.length} times`,
          ),
      }
    },
    { callDriver, mortal: [1] },
  ),
  scenario(
    ['E-32', 'E-13'],
    `dies while it asks; who asks after it is answered (${callDriver})`,
    0,
    3,
    (machine) => {
      const calls = sharing(machine)
      let end = ''
      return {
        programs: [
          idle,
          idle,
          function* ({ calls: family }) {
            yield* awaits(family.single(1, 'f', 'dead'))
            end = yield* outcome(() => awaits(family.single(1, 'f', 'again')))
          },
        ],
        atEnd: () =>
          expect(
            end === '' || (end === 'answer again done' && calls.join() === 'dead,again'),
            () => `${end}, ran for ${calls.join()}`,
          ),
      }
    },
    { callDriver, mortal: [2] },
  ),
  scenario(
    ['E-32', 'E-20'],
    `dies while it is asked, and comes up again (${callDriver})`,
    0,
    2,
    (machine) => {
      const calls = sharing(machine)
      const fate = fateOf(machine, 1)
      const reborn = machine.kernels[0]!.cpu.page + WORK + 1
      const ends: string[] = []
      return {
        programs: [
          function* (kernel) {
            const promise = yield* go(kernel.calls.single(1, 'f', 'first'))
            const known = yield* fate.known(kernel)
            yield bus().store(reborn, known)
            if (known === DIED) yield* bringUp(machine, kernel)
            ends.push(yield* outcome(() => awaits(promise)))
            ends.push(yield* outcome(() => awaits(kernel.calls.single(1, 'f', 'second'))))
          },
          function* ({ cpu }) {
            yield* go(cpu.poll())
            yield* fate.ends()
          },
        ],
        threads: [machine.reborn(1, reborn, (kernel) => share(kernel, calls))],
        onDeath: fate.onDeath,
        atEnd: () =>
          expect(
            /^(answer first done|IPI_CPU_DIED|IPI_CPU_OFFLINE),(answer second done|IPI_CPU_DIED|IPI_CPU_OFFLINE)$/.test(
              ends.join(),
            ) && calls.filter((info) => info === 'first').length <= 1,
            () => `${ends.join()}, ran for ${calls.join()}`,
          ),
      }
    },
    { callDriver, mortal: [1] },
  ),
])

export const LIVES: readonly KernelScenario[] = [
  ...deaths,

  scenario(
    ['E-26'],
    'dies while it flushes; the next flush is answered',
    0,
    3,
    (machine) => {
      const controls = machine.controls()
      const fate = fateOf(machine, 2)
      const mm = spaceOf(machine, 1, 2)
      let end = ''
      const { buffer } = machine.kernels[1]!.tlb as TlbStateDriver
      now(buffer.fill(0x2000, 'old'))
      return {
        programs: [
          function* (kernel) {
            yield* fate.known(kernel)
            end = yield* outcome(() => awaits(controls[0]!.flush(mm, 0x2000)))
            if (now(buffer.has(0x2000))) end = 'CPU 1 holds the old translation'
          },
          idle,
          function* () {
            yield* go(controls[2]!.flushSync(mm, 0x1000))
            yield* fate.ends()
          },
        ],
        onDeath: fate.onDeath,
        atEnd: () => expect(end === 'answer undefined', () => end),
      }
    },
    { mortal: [2], tlbDriver: 'tlbstate' },
  ),

  scenario(
    ['E-38'],
    'dies, perhaps in a handler, and its number comes up again',
    0,
    2,
    (machine) => {
      const [boot, first] = machine.kernels
      const fate = fateOf(machine, 1)
      const reborn = boot!.cpu.page + WORK + 1
      const taken: string[] = []
      now(
        first!.idt.setIntrGate('reads', FIRST, function* () {
          yield bus().load(reborn)
          yield* go(first!.cpu.apic.eoi())
        }),
      )
      return {
        programs: [
          function* (kernel) {
            yield* go(kernel.senders.sendIpiCpu(1, FIRST))
            const known = yield* fate.known(kernel)
            yield bus().store(reborn, known)
            if (known !== DIED) return
            yield* bringUp(machine, kernel)
            yield* go(kernel.senders.sendIpiCpu(1, FIRST))
          },
          function* ({ cpu }) {
            yield* go(cpu.poll())
            yield* fate.ends()
          },
        ],
        threads: [
          machine.reborn(1, reborn, (kernel) => {
            const { idt, cpu } = kernel
            now(idt.requestIrq(FIRST, 'counts', () => void taken.push(`on ${cpu.id}`)))
          }),
        ],
        onDeath: fate.onDeath,
        atEnd: () =>
          expect(!fate.hasDied() || taken.length === 1, () => `taken ${taken.length} times`),
      }
    },
    { mortal: [1] },
  ),

  scenario(
    ['E-37'],
    'a start-up, an INIT and another start-up',
    2,
    2,
    ({ kernels }) => {
      const { cpu } = kernels[1]!
      const starts: string[] = []
      let inits = 0
      cpu.core.initBlocked = false
      cpu.handlers.init = () => void inits++
      cpu.handlers.startup = (vector) => void starts.push(`${vector} after ${inits}`)
      return {
        programs: [
          function* ({ cpu: { descriptors } }) {
            yield* go(descriptors[1]!.postStartup(1))
            yield* go(descriptors[1]!.postInit())
            yield* go(descriptors[1]!.postStartup(2))
          },
          ({ idle: waiting }) => go(waiting.arm()),
        ],
        invariant: () =>
          expect(!starts.includes('1 after 1'), () => 'it started by what came before the INIT'),
        atEnd: () => expect(starts.at(-1) === '2 after 1', () => `started ${starts.join()}`),
      }
    },
    { down: [1] },
  ),

  scenario(
    ['E-25'],
    'comes up while another asks it',
    1,
    2,
    (machine) => {
      const calls = sharing(machine)
      const answers: unknown[] = []
      return {
        programs: [
          function* (kernel) {
            yield* machine.callOut(kernel, 1)
            while (answers.length === 0) {
              try {
                answers.push(yield* go(kernel.calls.singleSync(1, 'f', 7)))
              } catch (error) {
                if ((error as IpiError).code !== 'IPI_CPU_OFFLINE') throw error
                yield bus().pause()
              }
            }
          },
          (kernel) => machine.comeUp(kernel),
        ],
        atEnd: () =>
          expect(
            answers[0] === answerTo(7) && calls.length === 1,
            () => `answer ${answers.join()}`,
          ),
      }
    },
    { down: [1] },
  ),

  scenario(
    ['E-07'],
    'dies while it asks, and is buried; the next to ask is answered',
    0,
    3,
    (machine) => {
      const calls = sharing(machine)
      const fate = fateOf(machine, 2)
      return {
        programs: [
          function* (kernel) {
            yield* fate.known(kernel)
            yield* go(kernel.calls.singleSync(1, 'f', 'living'))
          },
          idle,
          function* ({ calls: family }) {
            yield* go(family.singleSync(1, 'f', 'dead', { wait: false }))
            yield* fate.ends()
          },
        ],
        onDeath: fate.onDeath,
        atEnd: () => expect(calls.includes('living'), () => `ran for ${calls.join()}`),
      }
    },
    { mortal: [2] },
  ),

  scenario(
    ['E-26'],
    "is buried and goes on for a while; what it takes then is nobody's",
    2,
    2,
    (machine) => {
      const [first, zombie] = machine.locks()
      const began = machine.kernels[0]!.cpu.page + WORK
      let got = 0
      return {
        programs: [
          function* (kernel) {
            while ((yield bus().load(began)) === 0) yield* go(kernel.cpu.cpuRelax())
            yield* machine.bury(kernel, 1)
            while (!(yield* go(first!.tryAcquire()))) yield* go(kernel.cpu.cpuRelax())
            // Somebody else may go on here.
            yield bus().load(began)
            got = first!.holder === 0 ? 1 : -1
            yield* go(first!.release())
          },
          function* () {
            yield bus().store(began, 1)
            if (yield* go(zombie!.tryAcquire())) yield* go(zombie!.release())
            machine.endThread(1)
          },
        ],
        onDeath: () => machine.write(began, 1),
        atEnd: () => expect(got === 1, () => (got < 0 ? 'it was let go by another' : 'never got')),
      }
    },
    { mortal: [1] },
  ),
]
