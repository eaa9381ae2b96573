/**
 * Forced entries: what they take, what they leave, and that they find nothing half changed. Here they
 * are calls in the one thread of the test, made where a thread can be interrupted: at every call that
 * the core makes.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { LocalApic } from '../../src/hardware/apic/local-apic.ts'
import { ATTENTION, CPU_STATE } from '../../src/hardware/layout.ts'
import { CoreBench, type TestCpu } from './core-bench.ts'

const NMI = 0x400
const SAFE = [0x60, 0x80]

/** Two processors, interrupts on; of B's vectors those in SAFE are interrupt-safe. */
function pair() {
  const bench = new CoreBench(2)
  const [a, b] = bench.cpus as [TestCpu, TestCpu]
  b.core.state = CPU_STATE.running
  b.handlers.isInterruptSafe = (vector) => SAFE.includes(vector)
  b.turnOn()
  return { bench, a, b, send: (command: number) => a.core.apic.sendCommand(1, command) }
}

describe('what a forced entry takes', () => {
  test('vectors that are interrupt-safe, and leaves the others to the next safepoint', () => {
    const { b, send } = pair()
    for (const vector of [0x60, 0x50]) send(vector)
    assert.equal(b.core.deliverInterrupts('forced'), true)
    assert.deepEqual(b.takeLog(), [0x60])
    b.core.poll()
    assert.deepEqual(b.takeLog().slice(0, 1), [0x50])
  })

  test('none that would pass a stronger one', () => {
    const { b, send } = pair()
    for (const vector of [0x60, 0x90]) send(vector)
    assert.equal(b.core.deliverInterrupts('forced'), false)
    assert.deepEqual(b.takeLog(), [])
    b.core.poll()
    assert.deepEqual(b.takeLog().slice(0, 2), [0x90, 0x60])
  })

  test('what it leaves is announced anew: whoever looks before going to sleep sees it', () => {
    const { b, send } = pair()
    send(0x50)
    b.core.deliverInterrupts('forced')
    assert.equal(b.core.attentionPending, true)
    const parked = pair()
    parked.b.core.state = CPU_STATE.parked
    parked.send(0x50)
    const { doorbell } = parked.b.core
    parked.b.core.deliverInterrupts('forced')
    assert.notEqual(parked.b.core.doorbell, doorbell, 'and it is rung')
  })

  test('with interrupts off only an NMI, and the rest once they are on', () => {
    const { b, send } = pair()
    b.core.cli()
    for (const command of [0x60, NMI]) send(command)
    b.core.deliverInterrupts('forced')
    assert.deepEqual(b.takeLog(), ['nmi'])
    b.turnOn()
    assert.deepEqual(b.takeLog().slice(0, 1), [0x60])
  })

  test('no completions and the like: they are no business of what it interrupts', () => {
    const { bench, b } = pair()
    bench.descriptors[1]!.attend(ATTENTION.completion)
    b.core.deliverInterrupts('forced')
    assert.deepEqual(b.takeLog(), [])
    b.core.poll()
    assert.deepEqual(b.takeLog(), [`attention ${ATTENTION.completion | ATTENTION.wake}`])
  })

  test('below it, safepoints take no more than it may', () => {
    const { b, send } = pair()
    b.handlers.gates[0x60] = () => {
      b.core.apic.eoi()
      for (const vector of [0x80, 0x70]) send(vector)
      b.turnOn()
      b.log.push('end of 60h')
      b.core.cli()
    }
    send(0x60)
    b.core.deliverInterrupts('forced')
    assert.deepEqual(b.takeLog(), [0x80, 'end of 60h'])
    b.core.poll()
    assert.deepEqual(b.takeLog().slice(0, 1), [0x70])
  })
})

/**
 * Has the core entered once: at the call to its APIC with number `at`, before or after it. Gives a
 * function that says whether there was such a call.
 */
function enterAt({ core }: TestCpu, at: number): () => boolean {
  const { apic } = core
  const prototype = Object.getPrototypeOf(apic) as LocalApic
  let calls = 0
  const boundary = (): void => {
    if (calls++ === at) core.deliverInterrupts('forced')
  }
  const around = <T>(run: () => T): T => {
    boundary()
    const result = run()
    boundary()
    return result
  }
  for (const name of Object.getOwnPropertyNames(prototype)) {
    const found = Object.getOwnPropertyDescriptor(prototype, name)!
    if (found.get !== undefined) {
      const changed = { get: () => around(() => Reflect.get(prototype, name, apic)) }
      const set = (to: unknown): unknown => around(() => Reflect.set(prototype, name, to, apic))
      Object.defineProperty(apic, name, found.set === undefined ? changed : { ...changed, set })
    } else if (name !== 'constructor') {
      const method = found.value as (...args: unknown[]) => unknown
      Object.defineProperty(apic, name, {
        value: (...args: unknown[]) => around(() => method.apply(apic, args)),
      })
    }
  }
  return () => calls > at
}

/** Runs `check` with a forced entry at each call in turn, until there are no more. */
function atEachCall(check: (bench: ReturnType<typeof pair>) => void): void {
  let reached = true
  let at = 0
  for (; reached; at++) {
    const bench = pair()
    const wasReached = enterAt(bench.b, at)
    check(bench)
    reached = wasReached()
  }
  assert.ok(at > 10, `${at} calls`)
}

describe('a forced entry at any call of the core', () => {
  test('no vector is lost, taken twice, or taken before a stronger one', () => {
    const vectors = [0x31, 0x45, 0x46, 0x60, 0x8f, 0xef]
    atEachCall(({ b, send }) => {
      b.handlers.isInterruptSafe = () => true
      b.core.cli()
      for (const vector of vectors) send(vector)
      b.turnOn()
      assert.deepEqual(b.takeLog().filter(Number), [...vectors].reverse())
      for (const vector of vectors) b.core.apic.raise(vector)
      b.core.poll()
      assert.deepEqual(b.takeLog().filter(Number).sort(), [...vectors].sort())
      assert.equal(b.core.apic.ppr, 0)
    })
  })

  test('two NMIs stay two', () => {
    atEachCall(({ b, send }) => {
      send(NMI)
      send(NMI)
      b.core.poll()
      assert.deepEqual(b.takeLog(), ['nmi', 'nmi'])
    })
  })

  test('ten NMIs from inside the handler run it once more', () => {
    atEachCall(({ b, send }) => {
      b.handlers.nmi = () => {
        b.log.push('nmi')
        if (b.log.length === 1) for (let i = 0; i < 10; i++) send(NMI)
      }
      send(NMI)
      b.core.poll()
      assert.deepEqual(b.takeLog(), ['nmi', 'nmi'])
    })
  })

  test('an NMI that comes while the core is closed is taken when it opens', () => {
    const { b, send } = pair()
    const { apic } = b.core
    const harvest = apic.harvest.bind(apic)
    const once = (): number => {
      const bits = harvest()
      Reflect.deleteProperty(apic, 'harvest')
      send(NMI)
      assert.equal(b.core.deliverInterrupts('forced'), false)
      return bits
    }
    Object.defineProperty(apic, 'harvest', { value: once, configurable: true })
    send(0x50)
    b.core.deliverInterrupts('safepoint')
    assert.deepEqual(b.takeLog(), ['nmi', 0x50])
  })
})
