/**
 * Core and APIC together: NMI, INIT and start-up. Rows D-100 to D-117 of docs/conformance.md, which
 * go back to kvm-unit-tests' x86/apic.c, eventinj.c, svm.c and vmx.c.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import { CoreBench } from './core-bench.ts'

const ID = 0x020
const TPR = 0x080
const LDR = 0x0d0
const SVR = 0x0f0

const NMI = 0x400
const INIT = 0xc500
const STARTUP = 0x600
const SELF = 1 << 18
const ALL_BUT_SELF = 3 << 18

const ROUNDS = 100_000

/** Two processors: A, the bootstrap processor, and B. */
function pair() {
  const bench = new CoreBench(2)
  const [a, b] = bench.cpus
  return { bench, a: a!, b: b!, send: (command: number) => a!.core.apic.sendCommand(1, command) }
}

describe('NMI', () => {
  test('D-100: it is never taken in the STI shadow', () => {
    const { b, send } = pair()
    let inShadow = 0
    for (let i = 0; i < 30_000; i++) {
      b.core.sti()
      send(NMI)
      // The boundary right behind STI, as far as this thread has one: a forced entry.
      b.core.deliverInterrupts('forced')
      inShadow += b.count('nmi')
      b.core.poll()
      b.core.cli()
      assert.deepEqual(b.takeLog(), ['nmi'])
    }
    assert.equal(inShadow, 0)
  })

  test('D-101: two at nearly the same time run the handler twice, every time', () => {
    const { a, b } = pair()
    a.turnOn()
    for (let round = 0; round < ROUNDS; round++) {
      a.core.apic.sendCommand(0, NMI)
      b.core.apic.sendCommand(0, NMI)
      b.core.apic.sendCommand(0, 0x55)
      a.core.poll()
      const log = a.takeLog()
      assert.ok(log.length === 3 && log[0] === 'nmi' && log[1] === 'nmi' && log[2] === 0x55)
    }
  })

  for (const from of ['itself', 'another CPU'] as const) {
    test(`D-102: ten from ${from} inside the handler run it exactly once more, every time`, () => {
      const { a, b } = pair()
      const sender = from === 'itself' ? a : b
      let runs = 0
      a.handlers.nmi = () => {
        if (++runs !== 1) return
        for (let i = 0; i < 10; i++) sender.core.apic.sendCommand(0, NMI)
      }
      for (let round = 0; round < ROUNDS; round++) {
        runs = 0
        sender.core.apic.sendCommand(0, NMI)
        a.core.poll()
        a.core.poll()
        assert.equal(runs, 2)
      }
    })
  }

  test('D-103: one sent in the handler waits for its end', () => {
    const { a } = pair()
    a.handlers.nmi = () => {
      a.log.push('begin')
      if (a.count('begin') === 1) a.core.apic.sendCommand(0, NMI)
      a.core.poll()
      a.log.push('end')
    }
    a.core.apic.sendCommand(0, NMI)
    a.core.poll()
    assert.deepEqual(a.log, ['begin', 'end', 'begin', 'end'])
  })

  test('D-104: an IRET inside the handler opens NMIs early: the next begins right there', () => {
    const { a } = pair()
    a.handlers.nmi = () => {
      a.log.push('begin')
      if (a.count('begin') === 1) {
        a.core.apic.sendCommand(0, NMI)
        a.core.iret()
        a.log.push('behind the IRET')
      }
      a.log.push('end')
    }
    a.core.apic.sendCommand(0, NMI)
    a.core.poll()
    assert.deepEqual(a.log, ['begin', 'begin', 'end', 'behind the IRET', 'end'])
  })

  test('D-105: it ends a halt with interrupts off, whenever it comes', async () => {
    const { bench, b } = pair()
    // Another thread waits until it sees B halted, and only then sends.
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads')
       import(workerData.modules + 'machine-memory.js').then(async ({ MachineMemory }) => {
         const { Descriptor } = await import(workerData.modules + 'descriptor.js')
         const memory = MachineMemory.attach(workerData.buffer)
         while (memory.readCpu(1, ${CPU.state}) !== ${CPU_STATE.halted});
         new Descriptor(memory, 1).postNmi()
       })`,
      {
        eval: true,
        workerData: {
          buffer: bench.memory.buffer,
          modules: new URL('../../src/hardware/', import.meta.url).href,
        },
      },
    )
    try {
      assert.equal(
        b.core.hlt(20_000, () => performance.now()),
        true,
      )
      assert.deepEqual(b.log, ['nmi'])
    } finally {
      await worker.terminate()
    }
  })

  test('D-106: sent to oneself by shorthand, it is one NMI', () => {
    const { a } = pair()
    a.core.apic.sendCommand(0, SELF | NMI)
    a.core.poll()
    a.core.poll()
    assert.deepEqual(a.log, ['nmi'])
  })

  test('D-107: TPR and the interrupt flag do not keep it out', () => {
    const { b, send } = pair()
    b.core.apic.write(TPR, 0xf0)
    send(NMI)
    b.core.poll()
    assert.deepEqual(b.log, ['nmi'])
  })

  test('D-108: it is not in service, and owes no EOI', () => {
    const { b, send } = pair()
    b.handlers.gates[0x55] = () => {
      send(NMI)
      b.core.poll()
      assert.deepEqual(b.log, ['nmi'])
      assert.equal(b.core.apic.isr(0x55), true)
      assert.equal(b.core.apic.eoi(), 0x55)
    }
    b.turnOn()
    send(0x55)
    b.core.poll()
    assert.equal(b.core.apic.eoi(), -1)
  })

  test('it goes before maskable interrupts, and INIT before it', () => {
    const { b, send } = pair()
    b.turnOn()
    for (const command of [0x55, NMI]) send(command)
    b.core.poll()
    assert.deepEqual(b.takeLog(), ['nmi', 0x55])
    for (const command of [NMI, INIT]) send(command)
    b.core.poll()
    assert.equal(b.log[0], 'init')
  })
})

describe('INIT and start-up', () => {
  test('D-109: INIT stops an AP: APIC in reset state, the same ID, waiting for start-up', () => {
    const { b, send } = pair()
    const { apic } = b.core
    apic.write(ID, 0x0100_0000)
    b.turnOn()
    send(INIT)
    b.core.poll()
    assert.deepEqual(b.log, ['init'])
    assert.equal(apic.read(ID), 0x0100_0000)
    assert.equal(apic.read(SVR), 0xff)
    assert.equal(apic.read(LDR), 0)
    assert.equal(b.core.interruptsEnabled, false)
    assert.equal(b.core.state, CPU_STATE.waitingForSipi)
    send(0x55)
    b.core.poll()
    assert.deepEqual(b.log, ['init'], 'fixed interrupts are discarded')
  })

  test('D-110: the first start-up starts it, at its page', () => {
    const { b, send } = pair()
    send(INIT)
    b.core.poll()
    send(STARTUP | 0x9f)
    b.core.poll()
    assert.deepEqual(b.log, ['init', 'startup 9f'])
  })

  test('D-111: the second start-up is ignored', () => {
    const { b, send } = pair()
    for (const command of [INIT, STARTUP | 0x9f, STARTUP | 0x10]) {
      send(command)
      b.core.poll()
    }
    assert.deepEqual(b.log, ['init', 'startup 9f'])
  })

  test('D-112: a start-up without INIT is ignored', () => {
    const { b, send } = pair()
    send(STARTUP | 0x9f)
    b.core.poll()
    assert.deepEqual(b.log, [])
    send(INIT)
    b.core.poll()
    assert.deepEqual(b.log, ['init'], 'and not remembered either')
  })

  test('INIT and start-up together, seen late, are taken in their order', () => {
    const { b, send } = pair()
    for (const command of [INIT, STARTUP | 0x11, STARTUP | 0x22]) send(command)
    b.core.poll()
    assert.deepEqual(b.log, ['init', 'startup 22'], 'and of two start-ups the later wins')
  })

  test('a forced entry in the middle of an INIT does not start it', () => {
    const { b, send } = pair()
    const { init } = b.handlers
    b.handlers.init = () => {
      init()
      b.core.deliverInterrupts('forced')
      b.log.push('reset')
    }
    for (const command of [INIT, STARTUP | 0x11]) send(command)
    b.core.poll()
    assert.deepEqual(b.log, ['init', 'reset', 'startup 11'])
  })

  test('D-113: where INIT is blocked it stays latched, and is taken on leaving', () => {
    const { b, send } = pair()
    b.core.initBlocked = true
    b.turnOn()
    send(INIT)
    b.core.poll()
    send(0x55)
    b.core.poll()
    assert.deepEqual(b.log, [0x55], 'B goes on inside')
    b.core.initBlocked = false
    b.core.poll()
    assert.deepEqual(b.log, [0x55, 'init'])
  })

  test('D-114: and it is taken once', () => {
    const { b, send } = pair()
    b.core.initBlocked = true
    send(INIT)
    b.core.poll()
    for (const blocked of [false, true, false]) {
      b.core.initBlocked = blocked
      b.core.poll()
    }
    assert.deepEqual(b.log, ['init'])
  })

  test('D-115: INIT to the bootstrap processor restarts it; memory and ID tell it from RESET', () => {
    const { bench, a } = pair()
    const { apic } = a.core
    const at = bench.memory.slots(0)
    bench.memory.words[at] = 4711
    apic.write(ID, 0x0700_0000)
    a.turnOn()
    apic.sendCommand(0, SELF | 0x500)
    a.core.poll()
    assert.deepEqual(a.log, ['init'])
    assert.equal(a.core.state, CPU_STATE.running, 'it does not wait for start-up')
    assert.equal(a.core.interruptsEnabled, false)
    assert.equal(bench.memory.words[at], 4711)
    assert.equal(apic.read(SVR), 0xff)
    assert.equal(apic.read(ID), 0x0700_0000)
    apic.reset('reset')
    assert.equal(apic.read(ID), 0)
  })

  test('D-116: INIT and start-up by shorthand bring all the others up', () => {
    const bench = new CoreBench(8)
    const boot = bench.cpus[0]!
    for (const command of [0x500, STARTUP | 0x9f]) {
      boot.core.apic.sendCommand(0, ALL_BUT_SELF | command)
      for (const cpu of bench.cpus) cpu.core.poll()
    }
    for (const cpu of bench.cpus.slice(1)) {
      assert.deepEqual(cpu.log, ['init', 'startup 9f'])
      assert.equal(cpu.core.state, CPU_STATE.running)
    }
    assert.deepEqual(boot.log, [])
  })

  test('D-117: an INIT cancels the start-up that was not taken yet', () => {
    const { b, send } = pair()
    send(INIT)
    b.core.poll()
    for (const command of [STARTUP | 0x9f, INIT]) send(command)
    b.core.poll()
    assert.deepEqual(b.log, ['init', 'init'])
    assert.equal(b.core.state, CPU_STATE.waitingForSipi)
  })
})
