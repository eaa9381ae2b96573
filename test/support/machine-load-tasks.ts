/** Random work for CPUs that others end at random moments. Every answer is checked. */

import { isIpiError, thisMachine, type CallOptions, type Machine } from '../../src/index.ts'
import { board, defineTask, echo, whoAmI } from './machine-tasks.ts'
import { WORD } from './machine-board.ts'
import { useSpace, SPACE, ADDRESS } from './machine-death-tasks.ts'
import { mulberry32 } from '../../src/testing/strategies/random.ts'

export { useSpace }

/** Words of the board: the work goes on until the first is not 0; the second counts it. */
export const STOP = WORD.free
export const PROGRESS = WORD.free + 1

/** What may become of a call while CPUs die: these, and nothing else. */
const EXPECTED = ['IPI_CPU_DIED', 'IPI_CPU_OFFLINE', 'IPI_NO_CPU']

/** One random operation. Throws what it should not have. */
async function operate(machine: Machine, draw: () => number, mayBlock: boolean): Promise<void> {
  const others = [...machine.onlineMask.without(machine.cpu.id)]
  const target = others[Math.floor(draw() * others.length)] ?? 0
  const options: CallOptions = { timeoutMs: 15_000 }
  const value = draw() < 0.2 ? `large${draw()}`.repeat(500) : draw()
  switch (Math.floor(draw() * (mayBlock ? 8 : 6))) {
    case 0:
      return same(await machine.smpCallFunctionSingle(target, echo, value, options), value)
    case 1:
      for (const [cpu, answer] of await machine.smpCallFunction(whoAmI, undefined, options)) {
        same(answer, cpu)
      }
      return
    case 2:
      for (const answer of (await machine.onEachCpu(echo, value, options)).values()) {
        same(answer, value)
      }
      return
    case 3:
      await machine.smpCallFunctionSingle(target, echo, value, { ...options, wait: false })
      return
    case 4: {
      const calls = Array.from({ length: 6 }, (_, n) =>
        machine.smpCallFunctionSingle(target, echo, n, options),
      )
      const settled = await Promise.allSettled(calls)
      for (const [n, call] of settled.entries()) {
        if (call.status === 'fulfilled') same(call.value, n)
        else check(call.reason)
      }
      return
    }
    case 5:
      useSpace(undefined)
      return machine.addressSpace(SPACE).flushTlbPage(ADDRESS)
    case 6:
      return same(machine.smpCallFunctionSingleSync(target, echo, value, options), value)
    default:
      for (const [cpu, answer] of machine.smpCallFunctionSync(whoAmI, undefined, options)) {
        same(answer, cpu)
      }
  }
}

function same(actual: unknown, expected: unknown): void {
  if (actual !== expected) throw new Error(`${String(actual)} is not ${String(expected)}`)
}

/** Throws again what a death does not explain. */
function check(error: unknown): void {
  if (!isIpiError(error)) throw error
  const { errors } = error as { errors?: ReadonlyMap<number, unknown> }
  if (error.code === 'IPI_CALL_FAILED' && errors !== undefined) {
    for (const each of errors.values()) check(each)
  } else if (!EXPECTED.includes(error.code)) {
    throw error
  }
}

/** Works until the board says stop; gives how many operations it did. */
export const work = defineTask(
  'work',
  async ({ seed, mayBlock = true }: { seed: number; mayBlock?: boolean }) => {
    const machine = thisMachine()
    const draw = mulberry32(seed)
    let operations = 0
    for (; board().get(STOP) === 0; operations++) {
      try {
        await operate(machine, draw, mayBlock)
      } catch (error) {
        check(error)
      }
      board().add(PROGRESS)
      if (draw() < 0.1) await new Promise((resolve) => setImmediate(resolve))
    }
    return operations
  },
)
