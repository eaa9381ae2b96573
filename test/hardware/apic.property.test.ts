/**
 * The APIC against a model that is as naive as possible: sets, sorting, division, no bit tricks.
 * Random CPUs do random things; after each, every register must show what the model says, and the
 * invariants of any APIC must hold.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { LocalApic } from '../../src/hardware/apic/local-apic.ts'
import { ApicBench, vectorsIn } from './apic-bench.ts'

const ID = 0x020
const TPR = 0x080
const PPR = 0x0a0
const LDR = 0x0d0
const SVR = 0x0f0
const ISR = 0x100
const IRR = 0x200
const ESR = 0x280

/** What a CPU of the model is and has. */
class ModelCpu {
  id: number
  ldr: number
  tpr = 0
  enabled = true
  posted = new Set<number>()
  requested = new Set<number>()
  /** In the order in which they were taken. */
  serving: number[] = []
  nmisPosted = 0
  nmis = 0
  nmiBlocked = false
  sendIllegal = false
  receiveIllegal = false

  constructor(cpu: number) {
    this.id = cpu
    this.ldr = 2 ** cpu
  }

  ppr(): number {
    const highest = Math.max(0, ...this.serving)
    const tprClass = Math.floor(this.tpr / 16)
    const servingClass = Math.floor(highest / 16)
    return tprClass >= servingClass ? this.tpr : servingClass * 16
  }

  pending(): number {
    const highest = [...this.requested].sort((a, b) => b - a)[0] ?? -1
    return Math.floor(highest / 16) > Math.floor(this.ppr() / 16) ? highest : -1
  }

  accept(vector: number): boolean {
    if (vector < 16) this.receiveIllegal = true
    else if (this.enabled) this.requested.add(vector)
    return vector >= 16 && this.enabled
  }

  acceptNmis(count: number): void {
    this.nmis = Math.min(this.nmiBlocked ? 1 : 2, this.nmis + count)
  }

  eoi(): void {
    const highest = Math.max(...this.serving)
    this.serving = this.serving.filter((vector) => vector !== highest)
  }
}

/** A vector's history on one CPU, in steps. */
interface History {
  accepted: number
  dispatched: number
  lastAccepted: number
  lastDispatched: number
}

/** Whom an operation sends to. */
type Target =
  | { to: 'physical'; id: number }
  | { to: 'logical'; mask: number }
  | { to: 'self' | 'all' | 'allButSelf' }

type Step =
  | { do: 'send'; target: Target; vector: number }
  | { do: 'sendNmi'; target: Target }
  | { do: 'harvest' | 'take' | 'eoi' | 'safepoint' | 'takeNmi' | 'iret' | 'readErrors' }
  | { do: 'tpr'; value: number }
  | { do: 'enable'; value: boolean }
  | { do: 'id' | 'ldr'; value: number }

const SHORTHANDS = { self: 1 << 18, all: 2 << 18, allButSelf: 3 << 18 }

/** A bench and its model, in step. */
class Twins {
  readonly bench: ApicBench
  readonly model: ModelCpu[]
  readonly histories: Map<string, History> = new Map()
  step = 0

  constructor(cpuCount: number) {
    this.bench = new ApicBench(cpuCount)
    this.model = Array.from({ length: cpuCount }, (_, cpu) => new ModelCpu(cpu))
  }

  history(cpu: number, vector: number): History {
    const key = `${cpu}:${vector}`
    const known = this.histories.get(key)
    if (known !== undefined) return known
    const fresh = { accepted: 0, dispatched: 0, lastAccepted: -1, lastDispatched: -1 }
    this.histories.set(key, fresh)
    return fresh
  }

  reached(from: number, target: Target): number[] {
    const everybody = [...this.model.keys()]
    switch (target.to) {
      case 'self':
        return [from]
      case 'all':
        return everybody
      case 'allButSelf':
        return everybody.filter((cpu) => cpu !== from)
      case 'physical':
        return everybody.filter((cpu) => target.id === 255 || this.model[cpu]!.id === target.id)
      case 'logical':
        return everybody.filter(
          (cpu) => target.mask === 255 || (target.mask & this.model[cpu]!.ldr) !== 0,
        )
    }
  }

  sendCommand(from: number, target: Target, command: number): void {
    const apic = this.bench.apics[from]!
    if (target.to === 'physical') apic.sendCommand(target.id, command)
    else if (target.to === 'logical') apic.sendCommand(target.mask, command | 0x800)
    else apic.sendCommand(0, command | SHORTHANDS[target.to])
  }

  accept(cpu: number, vector: number): void {
    if (!this.model[cpu]!.accept(vector)) return
    const history = this.history(cpu, vector)
    history.accepted++
    history.lastAccepted = this.step
  }

  send(from: number, target: Target, vector: number): void {
    this.sendCommand(from, target, vector)
    if (vector < 16) this.model[from]!.sendIllegal = true
    for (const cpu of this.reached(from, target)) {
      if (cpu === from) this.accept(cpu, vector)
      else this.model[cpu]!.posted.add(vector)
    }
  }

  sendNmi(from: number, target: Target): void {
    this.sendCommand(from, target, 0x400)
    for (const cpu of this.reached(from, target)) {
      if (cpu === from) this.model[cpu]!.acceptNmis(1)
      else this.model[cpu]!.nmisPosted++
    }
  }

  harvest(cpu: number): void {
    this.bench.apics[cpu]!.harvest()
    const model = this.model[cpu]!
    for (const vector of model.posted) this.accept(cpu, vector)
    model.posted.clear()
    model.acceptNmis(model.nmisPosted)
    model.nmisPosted = 0
  }

  /** The core takes one vector, if there is one to take; gives whether there was. */
  take(cpu: number): boolean {
    const apic = this.bench.apics[cpu]!
    const model = this.model[cpu]!
    const vector = apic.pendingVector()
    assert.equal(vector, model.pending())
    if (vector < 0) return false
    apic.acknowledge(vector)
    assert.ok(vector > Math.max(-1, ...model.serving), 'a dispatch is the highest in service')
    model.requested.delete(vector)
    model.serving.push(vector)
    const history = this.history(cpu, vector)
    history.dispatched++
    history.lastDispatched = ++this.step
    return true
  }

  eoi(cpu: number): void {
    this.bench.apics[cpu]!.eoi()
    this.model[cpu]!.eoi()
  }

  /** Harvests, and takes what may be taken, each handler doing its EOI and nothing else. */
  safepoint(cpu: number): void {
    this.harvest(cpu)
    while (this.take(cpu)) this.eoi(cpu)
    assert.equal(this.bench.apics[cpu]!.pendingVector(), -1, 'nothing deliverable is left')
  }

  takeNmi(cpu: number): void {
    const apic = this.bench.apics[cpu]!
    const model = this.model[cpu]!
    if (model.nmiBlocked || model.nmis === 0) return
    apic.nmiPending--
    apic.nmiBlocked = true
    model.nmis--
    model.nmiBlocked = true
  }

  /** IRET: what was posted while NMIs were blocked merges before they are open again. */
  iret(cpu: number): void {
    this.bench.apics[cpu]!.nmiBlocked = false
    const model = this.model[cpu]!
    if (model.nmiBlocked) {
      model.acceptNmis(model.nmisPosted)
      model.nmisPosted = 0
    }
    model.nmiBlocked = false
  }

  readErrors(cpu: number): void {
    const apic = this.bench.apics[cpu]!
    const model = this.model[cpu]!
    apic.write(ESR, 0)
    assert.equal(apic.read(ESR), (model.sendIllegal ? 32 : 0) + (model.receiveIllegal ? 64 : 0))
    model.sendIllegal = false
    model.receiveIllegal = false
  }

  run(cpu: number, step: Step): void {
    this.step++
    const apic = this.bench.apics[cpu]!
    const model = this.model[cpu]!
    switch (step.do) {
      case 'send':
        return this.send(cpu, step.target, step.vector)
      case 'sendNmi':
        return this.sendNmi(cpu, step.target)
      case 'tpr':
        apic.write(TPR, step.value)
        model.tpr = step.value
        return
      case 'enable':
        apic.write(SVR, step.value ? 0x1ff : 0xff)
        model.enabled = step.value
        return
      case 'id':
        apic.write(ID, (step.value << 24) >>> 0)
        model.id = step.value
        return
      case 'ldr':
        apic.write(LDR, (step.value << 24) >>> 0)
        model.ldr = step.value
        return
      case 'take':
        this.take(cpu)
        return
      default:
        return this[step.do](cpu)
    }
  }

  /** Everything that can be seen, and everything that must always hold. */
  check(): void {
    for (const [cpu, apic] of this.bench.apics.entries()) this.checkCpu(cpu, apic)
  }

  checkCpu(cpu: number, apic: LocalApic): void {
    const model = this.model[cpu]!
    const requested = vectorsIn(apic, IRR)
    const serving = vectorsIn(apic, ISR)
    assert.deepEqual(
      requested,
      [...model.requested].sort((a, b) => a - b),
    )
    assert.deepEqual(
      serving,
      [...model.serving].sort((a, b) => a - b),
    )
    assert.ok(![...requested, ...serving].some((vector) => vector < 16), 'no illegal vector')
    const classes = serving.map((vector) => Math.floor(vector / 16))
    assert.equal(new Set(classes).size, classes.length, 'one in service per class')
    assert.equal(apic.ppr, model.ppr())
    assert.equal(apic.read(PPR), model.ppr())
    assert.equal(apic.pendingVector(), model.pending())
    assert.equal(apic.nmiPending, model.nmis)
    assert.ok(apic.nmiPending <= (model.nmiBlocked ? 1 : 2))
    assert.equal(apic.hasPending, model.requested.size > 0 || model.nmis > 0)
  }

  /** Lets every CPU have its way at last: what was accepted must by then have been dispatched. */
  settle(): void {
    for (const cpu of this.model.keys()) {
      this.run(cpu, { do: 'tpr', value: 0 })
      while (this.model[cpu]!.serving.length > 0) this.eoi(cpu)
      this.run(cpu, { do: 'safepoint' })
    }
    for (const history of this.histories.values()) {
      assert.ok(history.dispatched <= history.accepted, 'no more dispatches than sends')
      assert.ok(history.lastDispatched > history.lastAccepted, 'the last send was not in vain')
    }
  }
}

/** Few vectors and close together, so that they meet. */
const vector = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(0x20, 0x21, 0x2f, 0x31, 0x3f, 0x40, 0xef, 0xfb, 0xff) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 255 }) },
)
const byte = fc.integer({ min: 0, max: 255 })

const target: fc.Arbitrary<Target> = fc.oneof(
  fc.record({ to: fc.constant('physical' as const), id: fc.constantFrom(0, 1, 2, 3, 255) }),
  fc.record({ to: fc.constant('logical' as const), mask: byte }),
  fc.record({ to: fc.constantFrom('self' as const, 'all' as const, 'allButSelf' as const) }),
)

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('send' as const), target, vector }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('sendNmi' as const), target }) },
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constantFrom(
        ...(['harvest', 'harvest', 'take', 'take', 'eoi', 'eoi', 'safepoint'] as const),
        ...(['takeNmi', 'iret', 'readErrors'] as const),
      ),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('tpr' as const), value: byte }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('enable' as const), value: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('id' as const, 'ldr' as const),
      value: fc.constantFrom(0, 1, 2, 3, 4, 7),
    }),
  },
)

test('whatever CPUs do, the APICs show what the model says, and every accepted send is served', () => {
  const program = fc.integer({ min: 2, max: 3 }).chain((cpuCount) =>
    fc.record({
      cpuCount: fc.constant(cpuCount),
      steps: fc.array(fc.tuple(fc.integer({ min: 0, max: cpuCount - 1 }), step), {
        maxLength: 60,
      }),
    }),
  )
  fc.assert(
    fc.property(program, ({ cpuCount, steps }) => {
      const twins = new Twins(cpuCount)
      for (const [cpu, one] of steps) {
        twins.run(cpu, one)
        twins.check()
      }
      twins.settle()
      twins.check()
    }),
    { numRuns: 300 },
  )
})

test('any set of vectors, requested at once, is dispatched from the highest down', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 16, max: 255 })), (vectors) => {
      const twins = new Twins(2)
      for (const vector of vectors) twins.send(0, { to: 'physical', id: 1 }, vector)
      twins.harvest(1)
      const order: number[] = []
      for (let next = twins.model[1]!.pending(); twins.take(1); next = twins.model[1]!.pending()) {
        order.push(next)
        twins.eoi(1)
      }
      assert.deepEqual(
        order,
        [...vectors].sort((a, b) => b - a),
      )
    }),
  )
})
