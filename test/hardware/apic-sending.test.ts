/**
 * What a sender knows of the others and when, lowest priority, and the commands that the manual
 * leaves undefined.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { BROADCAST } from '../../src/hardware/apic/destination.ts'
import { LocalApic } from '../../src/hardware/apic/local-apic.ts'
import { raiseApicMapGeneration } from '../../src/hardware/apic/page.ts'
import { CPU, CPU_STATE, HEADER } from '../../src/hardware/layout.ts'
import { store } from '../../src/hardware/memory.ts'
import { APIC_BASE_MSR, ApicBench, DEFAULT_BASE, EN, EXTD, FAULT, serve } from './apic-bench.ts'

const ID = 0x020
const TPR = 0x080
const SVR = 0x0f0
const ICR = 0x300

const FIXED = 0x000
const LOWEST = 0x100
const NMI = 0x400
const INIT = 0x500
const STARTUP = 0x600
const LOGICAL = 0x800
const SELF = 1 << 18
const ALL = 2 << 18
const ALL_BUT_SELF = 3 << 18

const VECTOR = 0xcf

describe('what a sender knows of the others', () => {
  test('an identity that changes is known to the next send', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.sendCommand(1, VECTOR)
    bench.apics[1]!.write(ID, 0x0900_0000)
    bench.apics[0]!.sendCommand(1, VECTOR - 1)
    bench.apics[0]!.sendCommand(9, VECTOR - 2)
    assert.deepEqual(bench.receive(), [[], [VECTOR, VECTOR - 2]])
  })

  test('a CPU that is not present gets nothing, and appears once the generation was raised', () => {
    const bench = new ApicBench(3)
    bench.memory.clearCpu(HEADER.presentMask, 2)
    raiseApicMapGeneration(bench.memory)
    bench.apics[0]!.sendCommand(0, ALL | VECTOR)
    assert.deepEqual(bench.receptions(), [1, 1, 0])
    bench.memory.setCpu(HEADER.presentMask, 2)
    raiseApicMapGeneration(bench.memory)
    bench.apics[0]!.sendCommand(0, ALL | VECTOR)
    assert.deepEqual(bench.receptions(), [1, 1, 1])
  })

  test('a globally disabled APIC accepts nothing at all, not even an NMI', () => {
    const bench = new ApicBench(2)
    bench.apics[1]!.writeMsr(APIC_BASE_MSR, DEFAULT_BASE)
    for (const mode of [FIXED, NMI, INIT, STARTUP]) {
      bench.apics[0]!.sendCommand(1, mode | VECTOR)
    }
    assert.deepEqual(bench.receptions(), [0, 0])
    // A post that was on its way when the APIC was disabled.
    bench.descriptors[1]!.postFixed(VECTOR, false)
    bench.descriptors[1]!.postNmi()
    bench.descriptors[1]!.postInit()
    assert.deepEqual(bench.receptions(), [0, 0])
    assert.equal(bench.apics[1]!.hasPending, false)
  })

  test('a thread that exists but has not attached yet is reached by INIT all the same', () => {
    const bench = new ApicBench(2)
    const page = bench.memory.cpuPage(1)
    store(bench.memory.words, page + CPU.apicBase, 0)
    raiseApicMapGeneration(bench.memory)
    bench.apics[0]!.sendCommand(1, INIT | 0xc000)
    bench.apics[0]!.sendCommand(1, STARTUP | 0x9f)
    const apic = new LocalApic(bench.memory, 1, bench.descriptors)
    apic.harvest()
    assert.equal(apic.initPending, true)
    assert.equal(apic.startupVector, 0x9f)
  })

  test('a new thread on an old CPU starts clean: nothing of the life before is delivered', () => {
    const bench = new ApicBench(2)
    bench.apics[1]!.raise(0x50)
    bench.apics[1]!.acknowledge(0x50)
    bench.apics[0]!.sendCommand(1, VECTOR)
    bench.apics[0]!.sendCommand(1, NMI)
    const apic = new LocalApic(bench.memory, 1, bench.descriptors)
    apic.write(SVR, 0x1ff)
    assert.deepEqual(serve(apic), [])
    assert.equal(apic.isr(0x50), false)
    assert.equal(apic.nmiPending, 0)
    assert.equal(apic.ppr, 0)
  })

  test('a message to several is one post each, whatever the receivers do meanwhile', () => {
    const bench = new ApicBench(3)
    bench.setState(1, CPU_STATE.waitingForSipi)
    bench.apics[2]!.write(SVR, 0xff)
    bench.apics[0]!.sendCommand(0, ALL_BUT_SELF | VECTOR)
    assert.deepEqual(bench.receptions(), [0, 0, 0], 'both discard it')
    assert.deepEqual(
      bench.apics.map((apic) => apic.statistics.discarded),
      [0, 1, 1],
    )
  })
})

describe('lowest priority', () => {
  const lowest = (bench: ApicBench, vector = VECTOR) => {
    bench.apics[0]!.sendCommand(0xff, LOGICAL | LOWEST | vector)
    return bench.receptions()
  }

  test('exactly one CPU receives it', () => {
    const bench = new ApicBench(4)
    assert.equal(
      lowest(bench).reduce((a, b) => a + b),
      1,
    )
  })

  test('the lowest class of arbitration priority wins', () => {
    const bench = new ApicBench(3)
    for (const [cpu, tpr] of [0x40, 0x30, 0x50].entries()) bench.apics[cpu]!.write(TPR, tpr)
    assert.deepEqual(lowest(bench), [0, 1, 0])
    assert.deepEqual(lowest(bench), [0, 1, 0], 'however many it has had')
  })

  test('equals take turns, the lowest ID first', () => {
    const bench = new ApicBench(3)
    assert.deepEqual(lowest(bench), [1, 0, 0])
    assert.deepEqual(lowest(bench), [0, 1, 0])
    assert.deepEqual(lowest(bench), [0, 0, 1])
    assert.deepEqual(lowest(bench), [1, 0, 0])
  })

  test('the focus takes it first: requested, in service or posted; unless it does not claim', () => {
    const take = (arrange: (bench: ApicBench) => void) => {
      const bench = new ApicBench(3)
      bench.apics[2]!.write(TPR, 0x50)
      arrange(bench)
      bench.apics[0]!.sendCommand(0xff, LOGICAL | LOWEST | VECTOR)
      return bench.descriptors.map((_, cpu) => {
        bench.apics[cpu]!.harvest()
        return bench.apics[cpu]!.irr(VECTOR)
      })
    }
    const requested = (bench: ApicBench) => bench.apics[2]!.raise(VECTOR)
    const inService = (bench: ApicBench) => {
      bench.apics[2]!.raise(VECTOR)
      bench.apics[2]!.acknowledge(VECTOR)
    }
    const posted = (bench: ApicBench) => bench.descriptors[2]!.postFixed(VECTOR, false)
    for (const arrange of [requested, inService, posted]) {
      assert.deepEqual(take(arrange), [false, false, true], arrange.name)
    }
    const unclaimed = (bench: ApicBench) => {
      inService(bench)
      bench.apics[2]!.write(SVR, 0x3ff)
    }
    assert.deepEqual(take(unclaimed), [true, false, false])
  })

  test('software disabled APICs are no candidates; with none at all nobody receives it', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.write(SVR, 0xff)
    assert.deepEqual(lowest(bench), [0, 1])
    bench.apics[1]!.write(SVR, 0xff)
    assert.deepEqual(lowest(bench), [0, 0])
    assert.equal(bench.apics[1]!.statistics.discarded, 0, 'not even to be discarded')
  })

  test('only CPUs that the destination means are candidates', () => {
    const bench = new ApicBench(4)
    for (let i = 0; i < 4; i++) {
      bench.apics[0]!.sendCommand(0b1010, LOGICAL | LOWEST | VECTOR)
      assert.deepEqual(bench.receptions(), i % 2 === 0 ? [0, 1, 0, 0] : [0, 0, 0, 1])
    }
  })
})

describe('what the manual does not define', () => {
  test('by default a self NMI and a self INIT do what they say', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.sendCommand(0, SELF | NMI)
    assert.equal(bench.apics[0]!.nmiPending, 1)
    bench.apics[0]!.sendCommand(0, SELF | INIT)
    assert.equal(bench.apics[0]!.initPending, true)
  })

  test('by default SMI and reserved modes are dropped and counted', () => {
    const bench = new ApicBench(2)
    for (const mode of [0x200, 0x300, 0x700]) bench.apics[0]!.sendCommand(1, mode)
    assert.deepEqual(bench.receptions(), [0, 0])
    assert.equal(bench.apics[1]!.hasPending, false)
    assert.equal(bench.apics[0]!.statistics.refused, 3)
  })

  test('strict: exactly what the tables of the manual do not list is refused, and changes nothing', () => {
    const edge = [0, 1, 2, 4, 5, 6]
    const level = [0, 1, 4, 5]
    const defined = [
      { edge, level },
      { edge: [0], level: [0] },
      { edge: [0], level: [0] },
      { edge, level },
    ]
    for (const [shorthand, row] of defined.entries()) {
      for (const trigger of ['edge', 'level'] as const) {
        for (let mode = 0; mode < 8; mode++) {
          const { apics } = new ApicBench(2, { strict: true })
          const levelBits = trigger === 'level' ? 0xc000 : 0
          const command = (shorthand << 18) | levelBits | (mode << 8) | 0x40
          apics[0]!.write(ICR, SELF | 0x31)
          const send = () => apics[0]!.sendCommand(1, command)
          const name = `${command.toString(16)}`
          if (mode === 2) assert.throws(send, { code: 'IPI_NOT_SUPPORTED' }, name)
          else if (row[trigger].includes(mode)) assert.doesNotThrow(send, name)
          else assert.throws(send, FAULT, name)
        }
      }
    }
    const { apics } = new ApicBench(2, { strict: true })
    assert.throws(() => apics[0]!.write(ICR, SELF | NMI), FAULT)
    assert.equal(apics[0]!.read(ICR), 0)
    assert.equal(apics[0]!.hasPending, false)
  })

  test('strict or not, INIT level de-assert is accepted and has no effect: G1', () => {
    for (const strict of [false, true]) {
      const bench = new ApicBench(2, { strict })
      for (const command of [0x0000_8500, 0x0008_8500]) bench.apics[0]!.sendCommand(1, command)
      bench.receive()
      for (const apic of bench.apics) assert.equal(apic.initPending, false)
    }
  })

  test('level-triggered IPIs are sent as edge-triggered ones', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.sendCommand(1, 0xc000 | VECTOR)
    bench.apics[1]!.harvest()
    assert.equal(bench.apics[1]!.irr(VECTOR), true)
    assert.equal(bench.apics[1]!.tmr(VECTOR), false)
  })

  test('BROADCAST is all ones, in 32 bits', () => {
    assert.equal(BROADCAST >>> 0, 0xffff_ffff)
    const bench = new ApicBench(1)
    bench.apics[0]!.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | EN | EXTD)
    bench.apics[0]!.writeMsr(0x830, (0xffff_ffffn << 32n) | BigInt(VECTOR))
    assert.deepEqual(serve(bench.apics[0]!), [VECTOR])
  })
})
