/**
 * Errors, and the messages that bypass the registers: NMI, INIT, start-up. Row D-229 of
 * docs/conformance.md, and the wake-up commands of G1.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ApicBench, serve, vectorsIn } from './apic-bench.ts'

const SVR = 0x0f0
const ISR = 0x100
const IRR = 0x200
const ESR = 0x280
const ICR = 0x300
const LVT_ERROR = 0x370

const NMI = 0x400
const INIT = 0x500
const STARTUP = 0x600
const SELF = 1 << 18
const LEVEL_ASSERT = 0xc000

const one = () => new ApicBench(1).apics[0]!
const esr = (apic: ReturnType<typeof one>) => {
  apic.write(ESR, 0)
  return apic.read(ESR)
}

describe('errors', () => {
  test('D-229: vector 0Fh sets bit 5 at the sender and bit 6 at the receiver', () => {
    const bench = new ApicBench(2)
    for (let vector = 0; vector < 16; vector++) {
      bench.apics[0]!.sendCommand(1, vector)
      assert.deepEqual(bench.receive(), [[], []], 'nothing is delivered')
      assert.equal(esr(bench.apics[0]!), 0x20)
      assert.equal(esr(bench.apics[1]!), 0x40)
    }
    assert.equal(bench.apics[0]!.statistics.sendIllegalVector, 16)
    assert.equal(bench.apics[1]!.statistics.receiveIllegalVector, 16)
  })

  test('to itself, a CPU logs both', () => {
    const apic = one()
    apic.write(ICR, SELF | 0x0f)
    assert.equal(esr(apic), 0x60)
    assert.deepEqual(vectorsIn(apic, IRR), [])
    assert.equal(apic.hasPending, false)
  })

  test('an illegal vector does not take a legal one of its word with it', () => {
    const bench = new ApicBench(1)
    bench.descriptors[0]!.postFixed(0x0f, false)
    bench.descriptors[0]!.postFixed(0x1f, false)
    assert.deepEqual(serve(bench.apics[0]!), [0x1f])
    assert.equal(esr(bench.apics[0]!), 0x40)
  })

  test('NMI, INIT and start-up carry no vector that could be illegal', () => {
    const bench = new ApicBench(2)
    for (const mode of [NMI, INIT | LEVEL_ASSERT, STARTUP]) bench.apics[0]!.sendCommand(1, mode)
    bench.receive()
    assert.equal(esr(bench.apics[0]!), 0)
    assert.equal(esr(bench.apics[1]!), 0)
    assert.equal(bench.apics[1]!.startupVector, 0, 'page 0 is a page')
  })

  test('a write shows what has gathered; a read alone shows old news; two writes leave 0', () => {
    const apic = one()
    apic.read(0x000)
    assert.equal(apic.read(ESR), 0)
    apic.write(ESR, 0xffff_ffff)
    assert.equal(apic.read(ESR), 0x80)
    apic.raise(5)
    assert.equal(apic.read(ESR), 0x80)
    apic.write(ESR, 0)
    assert.equal(apic.read(ESR), 0x40)
    apic.write(ESR, 0)
    assert.equal(apic.read(ESR), 0)
  })

  test('a newly detected error raises the error interrupt, if that is not masked', () => {
    const apic = one()
    apic.read(0x000)
    assert.deepEqual(serve(apic), [])
    assert.equal(esr(apic), 0x80, 'gathered though masked')
    apic.write(LVT_ERROR, 0xfe)
    apic.read(0x000)
    assert.deepEqual(serve(apic), [0xfe])
    apic.read(0x000)
    assert.deepEqual(serve(apic), [], 'once, until ESR is written')
    apic.write(ESR, 0)
    apic.read(0x000)
    assert.deepEqual(serve(apic), [0xfe])
  })

  test('an error interrupt with an illegal vector of its own ends after one more error', () => {
    const apic = one()
    apic.write(LVT_ERROR, 0x0e)
    apic.read(0x000)
    assert.equal(esr(apic), 0xc0)
    assert.deepEqual(serve(apic), [])
  })
})

describe('NMI, INIT and start-up', () => {
  test('two NMIs are remembered, more are not', () => {
    const bench = new ApicBench(2)
    for (let i = 0; i < 5; i++) bench.apics[0]!.sendCommand(1, NMI)
    bench.apics[1]!.harvest()
    assert.equal(bench.apics[1]!.nmiPending, 2)
    assert.equal(bench.apics[1]!.hasPending, true)
  })

  test('while NMIs are blocked one is remembered, from whomever', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    apic.nmiBlocked = true
    for (let i = 0; i < 3; i++) bench.apics[0]!.sendCommand(1, NMI)
    for (let i = 0; i < 3; i++) apic.sendCommand(0, SELF | NMI)
    apic.harvest()
    assert.equal(apic.nmiPending, 1)
  })

  test('NMIs posted while blocked, but seen only after the IRET, have merged', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    apic.nmiBlocked = true
    for (let i = 0; i < 10; i++) bench.apics[0]!.sendCommand(1, NMI)
    apic.nmiBlocked = false
    apic.harvest()
    assert.equal(apic.nmiPending, 1)
  })

  test('the core counts NMIs down; with none left nothing waits', () => {
    const apic = one()
    apic.sendCommand(0, SELF | NMI)
    apic.nmiPending--
    assert.equal(apic.hasPending, false)
  })

  test('an INIT cancels the start-up before it, not the one after it', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    bench.apics[0]!.sendCommand(1, STARTUP | 0x11)
    bench.apics[0]!.sendCommand(1, INIT)
    apic.harvest()
    assert.deepEqual([apic.initPending, apic.startupVector], [true, -1])
    bench.apics[0]!.sendCommand(1, STARTUP | 0x22)
    apic.harvest()
    assert.deepEqual([apic.initPending, apic.startupVector], [true, 0x22])
    bench.apics[0]!.sendCommand(1, INIT)
    apic.harvest()
    assert.deepEqual([apic.initPending, apic.startupVector], [true, -1])
  })

  test('of two start-ups the later wins', () => {
    const bench = new ApicBench(2)
    for (const page of [0x11, 0x22]) bench.apics[0]!.sendCommand(1, STARTUP | page)
    bench.apics[1]!.harvest()
    assert.equal(bench.apics[1]!.startupVector, 0x22)
    bench.apics[0]!.sendCommand(1, STARTUP | 0x33)
    bench.apics[1]!.harvest()
    assert.equal(bench.apics[1]!.startupVector, 0x33)
  })

  test('taking INIT keeps a start-up and an NMI that came with it', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    for (const command of [INIT, STARTUP | 0x9f, NMI]) bench.apics[0]!.sendCommand(1, command)
    apic.harvest()
    apic.initPending = false
    apic.reset('init')
    assert.equal(apic.startupVector, 0x9f)
    assert.equal(apic.nmiPending, 1)
    assert.equal(apic.hasPending, true)
    apic.startupVector = -1
    apic.nmiPending = 0
    assert.equal(apic.hasPending, false)
  })

  test('INIT forgets fixed interrupts: requested, in service, posted', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    apic.raise(0x50)
    apic.acknowledge(0x50)
    apic.raise(0x60)
    bench.apics[0]!.sendCommand(1, 0x70)
    apic.reset('init')
    apic.write(SVR, 0x1ff)
    assert.deepEqual(serve(apic), [])
    assert.deepEqual(vectorsIn(apic, ISR), [])
  })

  test('G1: the wake-up sequence of do_boot_cpu, as 2.6.11 writes it', () => {
    const bench = new ApicBench(2)
    const [a, b] = bench.apics as [ReturnType<typeof one>, ReturnType<typeof one>]
    a.write(0x310, 0x0100_0000)
    a.write(ICR, 0x0000_c500)
    a.write(ICR, 0x0000_8500)
    b.harvest()
    assert.deepEqual([b.initPending, b.startupVector], [true, -1])
    a.write(ICR, 0x0000_069f)
    b.harvest()
    assert.equal(b.startupVector, 0x9f)
    a.write(0x310, 0x0200_0000)
    a.write(ICR, 0x0000_0c00)
    b.harvest()
    assert.equal(b.nmiPending, 1, 'NMI by logical mask, as NUMA-Q wakes')
  })

  test('G1: a remote read is accepted, and answers nothing', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.write(0x310, 0x0100_0000)
    bench.apics[0]!.write(ICR, 0x0000_0302)
    assert.equal(bench.apics[0]!.read(0x0c0), 0)
    assert.equal(bench.apics[1]!.harvest(), 0)
  })
})
