/** The APIC timer. Rows D-150 to D-157 of docs/conformance.md, from kvm-unit-tests' x86/apic.c. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { divisorOf } from '../../src/hardware/apic/timer.ts'
import { ApicBench, serve } from './apic-bench.ts'

const LVT_TIMER = 0x320
const INITIAL = 0x380
const CURRENT = 0x390
const DIVIDE = 0x3e0
const SVR = 0x0f0
const TSC_DEADLINE = 0x6e0

const BY_1 = 0b1011
const ONE_SHOT = 0 << 17
const PERIODIC = 1 << 17
const DEADLINE = 2 << 17
const MASKED = 1 << 16
const VECTOR = 0xee
/** Bus cycles in a millisecond. */
const MS = 1_000_000

/** An APIC and a clock that the test moves. */
function timerBench(mode: number, divide = BY_1) {
  let now = 1000
  const apic = new ApicBench(1, { clock: () => now }).apics[0]!
  apic.write(LVT_TIMER, mode | VECTOR)
  apic.write(DIVIDE, divide)
  const elapse = (ms: number) => {
    now += ms
    apic.pollTimer()
  }
  return { apic, elapse, now: () => now }
}

describe('the APIC timer', () => {
  test('D-150: one-shot gives exactly one interrupt, not before its time', () => {
    const { apic, elapse, now } = timerBench(ONE_SHOT)
    apic.write(INITIAL, 0x1_0000)
    const due = apic.pollTimer()
    assert.equal(due, now() + 0x1_0000 / MS)
    elapse((0x1_0000 - 1) / MS)
    assert.deepEqual(serve(apic), [])
    elapse(2 / MS)
    assert.deepEqual(serve(apic), [VECTOR])
    elapse(1000)
    assert.deepEqual(serve(apic), [])
    assert.equal(apic.pollTimer(), Infinity)
  })

  test('D-151: the initial count survives a change of mode', () => {
    const { apic } = timerBench(ONE_SHOT)
    apic.write(INITIAL, 5 * MS)
    apic.write(LVT_TIMER, PERIODIC | VECTOR)
    assert.equal(apic.read(INITIAL), 5 * MS)
  })

  test('D-152: one-shot runs down to 0', () => {
    const { apic, elapse } = timerBench(ONE_SHOT)
    apic.write(INITIAL, 4 * MS)
    assert.equal(apic.read(CURRENT), 4 * MS)
    elapse(1)
    assert.equal(apic.read(CURRENT), 3 * MS)
    elapse(5)
    assert.equal(apic.read(CURRENT), 0)
  })

  test('D-153: a change to periodic does not reload', () => {
    const { apic, elapse } = timerBench(ONE_SHOT)
    apic.write(INITIAL, 4 * MS)
    elapse(2.5)
    apic.write(LVT_TIMER, PERIODIC | VECTOR)
    assert.equal(apic.read(CURRENT), 1.5 * MS)
  })

  test('D-154: periodic begins again at the top', () => {
    const { apic, elapse } = timerBench(PERIODIC)
    apic.write(INITIAL, 4 * MS)
    elapse(5)
    assert.equal(apic.read(CURRENT), 3 * MS)
    assert.deepEqual(serve(apic), [VECTOR])
    elapse(4)
    assert.deepEqual(serve(apic), [VECTOR])
  })

  test('D-155: back in one-shot it reaches 0 and stays', () => {
    const { apic, elapse } = timerBench(PERIODIC)
    apic.write(INITIAL, 4 * MS)
    elapse(6)
    apic.write(LVT_TIMER, ONE_SHOT | VECTOR)
    elapse(3)
    assert.equal(apic.read(CURRENT), 0)
    elapse(30)
    assert.equal(apic.read(CURRENT), 0)
    assert.deepEqual(serve(apic), [VECTOR])
  })

  test('D-156: periodic with a count of 0 stays at 0', () => {
    const { apic, elapse } = timerBench(ONE_SHOT)
    apic.write(INITIAL, 4 * MS)
    elapse(5)
    assert.deepEqual(serve(apic), [VECTOR])
    apic.write(LVT_TIMER, PERIODIC | VECTOR)
    elapse(20)
    assert.equal(apic.read(CURRENT), 0)
    assert.equal(apic.read(INITIAL), 4 * MS)
    assert.deepEqual(serve(apic), [])
  })

  test('D-157: a deadline in the past gives one interrupt, and the register reads 0', () => {
    const { apic, elapse, now } = timerBench(DEADLINE)
    apic.writeMsr(TSC_DEADLINE, BigInt(now() - 1) * BigInt(MS))
    assert.equal(apic.readMsr(TSC_DEADLINE), 0n)
    assert.deepEqual(serve(apic), [VECTOR])
    elapse(10)
    assert.deepEqual(serve(apic), [])
  })

  test('a deadline in the future gives one interrupt when it comes, unless disarmed with 0', () => {
    const { apic, elapse, now } = timerBench(DEADLINE)
    const deadline = BigInt(now() + 5) * BigInt(MS)
    apic.writeMsr(TSC_DEADLINE, deadline)
    assert.equal(apic.readMsr(TSC_DEADLINE), deadline)
    assert.equal(apic.read(CURRENT), 0)
    assert.equal(apic.pollTimer(), now() + 5)
    elapse(4)
    assert.deepEqual(serve(apic), [])
    elapse(1)
    assert.deepEqual(serve(apic), [VECTOR])
    apic.writeMsr(TSC_DEADLINE, BigInt(now() + 5) * BigInt(MS))
    apic.writeMsr(TSC_DEADLINE, 0n)
    elapse(10)
    assert.deepEqual(serve(apic), [])
  })

  test('deadline mode ignores the initial count; the other modes ignore the deadline', () => {
    const deadline = timerBench(DEADLINE)
    deadline.apic.write(INITIAL, MS)
    assert.equal(deadline.apic.pollTimer(), Infinity)
    const oneShot = timerBench(ONE_SHOT)
    oneShot.apic.writeMsr(TSC_DEADLINE, 1n)
    assert.equal(oneShot.apic.readMsr(TSC_DEADLINE), 0n)
    assert.equal(oneShot.apic.pollTimer(), Infinity)
  })

  test('the way into deadline mode, and out of it, stops the timer', () => {
    const { apic, now } = timerBench(ONE_SHOT)
    apic.write(INITIAL, MS)
    apic.write(LVT_TIMER, DEADLINE | VECTOR)
    assert.equal(apic.pollTimer(), Infinity)
    apic.writeMsr(TSC_DEADLINE, BigInt(now() + 5) * BigInt(MS))
    apic.write(LVT_TIMER, ONE_SHOT | VECTOR)
    assert.equal(apic.pollTimer(), Infinity)
    assert.equal(apic.read(INITIAL), 0)
  })

  test('writing 0 stops it; writing again starts anew', () => {
    const { apic, elapse } = timerBench(ONE_SHOT)
    apic.write(INITIAL, 4 * MS)
    elapse(2)
    apic.write(INITIAL, 0)
    elapse(10)
    assert.deepEqual(serve(apic), [])
    apic.write(INITIAL, 4 * MS)
    elapse(2)
    apic.write(INITIAL, 4 * MS)
    assert.equal(apic.read(CURRENT), 4 * MS)
  })

  test('the divide register: bits 3, 1 and 0', () => {
    const divisors = [2, 4, 8, 16, 32, 64, 128, 1]
    for (const [code, divisor] of divisors.entries()) {
      const divide = ((code & 4) << 1) | (code & 3)
      assert.equal(divisorOf(divide), divisor)
      const { apic, elapse } = timerBench(ONE_SHOT, divide)
      apic.write(INITIAL, 1000)
      elapse((1000 * divisor - 1) / MS)
      assert.deepEqual(serve(apic), [])
      elapse(2 / MS)
      assert.deepEqual(serve(apic), [VECTOR])
    }
  })

  test('a write of the divide register keeps the count and changes the rate', () => {
    const { apic, elapse } = timerBench(ONE_SHOT)
    apic.write(INITIAL, 4 * MS)
    elapse(2)
    apic.write(DIVIDE, 0b0000)
    assert.equal(apic.read(CURRENT), 2 * MS)
    elapse(2)
    assert.equal(apic.read(CURRENT), MS)
    elapse(2)
    assert.deepEqual(serve(apic), [VECTOR])
  })

  test('periods that nobody looked at merge into one interrupt, and the phase is kept', () => {
    const { apic, elapse } = timerBench(PERIODIC)
    apic.write(INITIAL, 4 * MS)
    elapse(4 * 7 + 1)
    assert.deepEqual(serve(apic), [VECTOR])
    assert.equal(apic.read(CURRENT), 3 * MS)
  })

  test('masked or software disabled it counts, and generates nothing', () => {
    for (const silence of ['mask', 'disable'] as const) {
      const { apic, elapse } = timerBench(ONE_SHOT)
      if (silence === 'mask') apic.write(LVT_TIMER, MASKED | VECTOR)
      else apic.write(SVR, 0xff)
      apic.write(INITIAL, 4 * MS)
      elapse(5)
      assert.equal(apic.read(CURRENT), 0)
      apic.write(SVR, 0x1ff)
      apic.write(LVT_TIMER, VECTOR)
      assert.deepEqual(serve(apic), [])
    }
  })

  test('reading the current count of an expired timer raises its interrupt', () => {
    let now = 0
    const apic = new ApicBench(1, { clock: () => now }).apics[0]!
    apic.write(LVT_TIMER, VECTOR)
    apic.write(DIVIDE, BY_1)
    apic.write(INITIAL, MS)
    now = 1
    assert.equal(apic.read(CURRENT), 0)
    assert.deepEqual(serve(apic), [VECTOR])
  })

  test('with the clock that stands still, nothing ever expires', () => {
    const apic = new ApicBench(1).apics[0]!
    apic.write(LVT_TIMER, VECTOR)
    apic.write(INITIAL, 1)
    assert.ok(apic.pollTimer() > 0)
    assert.equal(apic.read(CURRENT), 1)
    assert.deepEqual(serve(apic), [])
  })

  test('RESET and INIT stop it', () => {
    for (const kind of ['reset', 'init'] as const) {
      const { apic } = timerBench(PERIODIC)
      apic.write(INITIAL, MS)
      apic.reset(kind)
      assert.equal(apic.pollTimer(), Infinity)
      for (const register of [INITIAL, CURRENT, DIVIDE]) assert.equal(apic.read(register), 0)
    }
  })
})
