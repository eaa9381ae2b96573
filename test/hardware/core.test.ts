/**
 * Core and APIC together: when a maskable interrupt is taken. Rows D-040 to D-062 of
 * docs/conformance.md, which go back to kvm-unit-tests' x86/apic.c, vmexit.c, eventinj.c, svm.c and
 * vmx.c. What is one instruction there is one safepoint here: NOP is `poll`.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CoreBench } from './core-bench.ts'

const TPR = 0x080
const ICR = 0x300
const SELF = 1 << 18
const SELF_IPI_MSR = 0x83f
const TPR_MSR = 0x808

/** A clock for halts that must not last: it stands still, and time out at once is a failure. */
const still = () => 0

/** One processor in one of the two forms of its APIC, and how software reaches it. */
function processor(mode: 'xAPIC' | 'x2APIC') {
  const bench = new CoreBench(1)
  const apic = bench.apics[0]!
  const cpu = bench.cpus[0]!
  if (mode === 'x2APIC') bench.toX2apic()
  return {
    apic,
    cpu,
    core: cpu.core,
    selfIpi: (vector: number) =>
      mode === 'xAPIC'
        ? apic.write(ICR, SELF | vector)
        : apic.writeMsr(SELF_IPI_MSR, BigInt(vector)),
    setTpr: (priority: number) =>
      mode === 'xAPIC' ? apic.write(TPR, priority) : apic.writeMsr(TPR_MSR, BigInt(priority)),
  }
}

describe('self-IPI', () => {
  test('D-040: by shorthand in xAPIC mode, the handler runs exactly once', () => {
    const { cpu, core, selfIpi } = processor('xAPIC')
    cpu.turnOn()
    selfIpi(0xf1)
    core.poll()
    core.poll()
    assert.deepEqual(cpu.log, [0xf1])
  })

  test('D-041: by shorthand in x2APIC mode, too', () => {
    const { apic, cpu, core } = processor('x2APIC')
    cpu.turnOn()
    apic.writeMsr(0x830, BigInt(SELF | 0xf1))
    core.poll()
    core.poll()
    assert.deepEqual(cpu.log, [0xf1])
  })

  test('D-042: by the SELF IPI register, too', () => {
    const { cpu, core, selfIpi } = processor('x2APIC')
    cpu.turnOn()
    selfIpi(0xf1)
    core.poll()
    core.poll()
    assert.deepEqual(cpu.log, [0xf1])
  })
})

for (const mode of ['xAPIC', 'x2APIC'] as const) {
  // The same rows again in x2APIC mode are row D-048.
  const row = (id: string) => (mode === 'xAPIC' ? id : `D-048 (${id} in x2APIC mode)`)

  describe(`masking by flag and by TPR, ${mode}`, () => {
    test(`${row('D-043')}: pending until STI`, () => {
      const { cpu, core, selfIpi } = processor(mode)
      selfIpi(0xf1)
      core.poll()
      assert.deepEqual(cpu.log, [])
      core.sti()
      assert.deepEqual(cpu.log, [], 'STI alone opens nothing')
      core.poll()
      assert.deepEqual(cpu.log, [0xf1])
    })

    test(`${row('D-044')}: STI and HLT: the halt returns at once`, () => {
      const { cpu, core, selfIpi } = processor(mode)
      selfIpi(0xf1)
      core.sti()
      assert.equal(core.hlt(0, still), true)
      assert.deepEqual(cpu.log, [0xf1])
    })

    test(`${row('D-045')}: TPR blocks, lowering it releases`, () => {
      const { cpu, core, selfIpi, setTpr } = processor(mode)
      cpu.turnOn()
      setTpr(0xf0)
      selfIpi(0xb0)
      core.poll()
      assert.deepEqual(cpu.log, [])
      setTpr(0)
      core.poll()
      assert.deepEqual(cpu.log, [0xb0])
    })

    test(`${row('D-046')}: TPR lowered with interrupts off: only STI releases`, () => {
      const { cpu, core, selfIpi, setTpr } = processor(mode)
      setTpr(0xf0)
      selfIpi(0xf1)
      setTpr(0)
      core.poll()
      assert.deepEqual(cpu.log, [])
      cpu.turnOn()
      assert.deepEqual(cpu.log, [0xf1])
    })

    test(`${row('D-047')}: the same, ending in STI and HLT`, () => {
      const { cpu, core, selfIpi, setTpr } = processor(mode)
      setTpr(0xf0)
      selfIpi(0xf1)
      setTpr(0)
      core.sti()
      assert.equal(core.hlt(0, still), true)
      assert.deepEqual(cpu.log, [0xf1])
    })
  })
}

describe('the task priority', () => {
  test('D-049: lowered in part, it releases in part', () => {
    const { cpu, core, selfIpi, setTpr } = processor('xAPIC')
    cpu.turnOn()
    setTpr(0xf0)
    selfIpi(0x20)
    selfIpi(0x3e)
    core.poll()
    setTpr(0x20)
    core.poll()
    assert.deepEqual(cpu.takeLog(), [0x3e])
    setTpr(0)
    core.poll()
    assert.deepEqual(cpu.log, [0x20])
  })

  test('D-050: for every vector and every TPR, the class decides and nothing else', () => {
    const { cpu, core, selfIpi, setTpr } = processor('xAPIC')
    cpu.turnOn()
    for (let vector = 0x21; vector <= 0xff; vector++) {
      for (let tpr = 0; tpr <= 0xff; tpr++) {
        setTpr(tpr)
        selfIpi(vector)
        core.poll()
        const runs = vector >>> 4 > tpr >>> 4
        assert.equal(cpu.log.length, runs ? 1 : 0, `vector ${vector}, TPR ${tpr}`)
        setTpr(0)
        core.poll()
        assert.equal(cpu.takeLog().length, 1)
      }
    }
  })

  test('D-051: a pending vector is released by the write that lowers TPR below its class', () => {
    const { cpu, core, selfIpi, setTpr } = processor('xAPIC')
    cpu.turnOn()
    for (const vector of [0x21, 0x4f, 0x50, 0xb0, 0xff]) {
      for (let tpr = 0; tpr <= 0xff; tpr++) {
        setTpr(0xff)
        selfIpi(vector)
        core.poll()
        assert.deepEqual(cpu.log, [])
        setTpr(tpr)
        core.poll()
        assert.deepEqual(cpu.takeLog(), vector >>> 4 > tpr >>> 4 ? [vector] : [])
        setTpr(0)
        core.poll()
        cpu.takeLog()
      }
    }
  })

  test('D-052: TPR above the vector, lowered with interrupts off: once after STI, not before', () => {
    const { cpu, core, selfIpi, setTpr } = processor('xAPIC')
    cpu.turnOn()
    setTpr(0xf0)
    selfIpi(0xe1)
    core.poll()
    core.cli()
    setTpr(0)
    core.poll()
    assert.deepEqual(cpu.log, [])
    cpu.turnOn()
    core.poll()
    assert.deepEqual(cpu.log, [0xe1])
  })
})

describe('the window', () => {
  test('D-053: two vectors, one window: both are taken, the higher first', () => {
    const { cpu, selfIpi } = processor('xAPIC')
    selfIpi(0x20)
    selfIpi(0x21)
    cpu.openWindow()
    assert.deepEqual(cpu.log, [0x21, 0x20])
  })

  test('D-054: a software interrupt in the STI shadow goes first; each is handled once', () => {
    const { cpu, core, selfIpi } = processor('xAPIC')
    // A software interrupt owes no EOI; the gate below tells the two apart by ISR.
    cpu.handlers.gates[0x21] = (vector) => void cpu.log.push(vector)
    selfIpi(0x20)
    core.sti()
    core.interrupt(0x21)
    assert.deepEqual(cpu.log, [0x21, 0x20])
  })

  test('D-055: an interrupt and INT n of one vector count once each; INT touches no register', () => {
    const { apic, cpu, core, selfIpi } = processor('xAPIC')
    const served: boolean[] = []
    cpu.handlers.gates[0x21] = (vector) => {
      cpu.log.push(vector)
      served.push(apic.isr(vector))
      if (apic.isr(vector)) apic.eoi()
    }
    cpu.turnOn()
    selfIpi(0x21)
    core.poll()
    core.interrupt(0x21)
    assert.deepEqual(cpu.log, [0x21, 0x21])
    assert.deepEqual(served, [true, false])
    assert.equal(apic.eoi(), -1, 'nothing is left in service')
  })

  test('D-056: off, nothing; on, once; on again, nothing more', () => {
    const { cpu, core, selfIpi } = processor('xAPIC')
    selfIpi(0xf1)
    core.poll()
    assert.deepEqual(cpu.log, [])
    cpu.openWindow()
    assert.deepEqual(cpu.log, [0xf1])
    cpu.openWindow()
    assert.deepEqual(cpu.log, [0xf1])
  })

  test('STI and CLI with nothing between them open no window', () => {
    const { cpu, core, selfIpi } = processor('xAPIC')
    selfIpi(0xf1)
    for (let i = 0; i < 100; i++) {
      core.sti()
      assert.equal(core.deliverInterrupts('forced'), false, 'not even a forced entry')
      core.cli()
      core.poll()
    }
    assert.deepEqual(cpu.log, [])
  })

  test('D-057: what is pending goes before the task that opens interrupts', () => {
    const { cpu, core, selfIpi } = processor('xAPIC')
    selfIpi(0xf1)
    core.sti()
    for (let i = 0; i < 2; i++) {
      core.poll()
      cpu.log.push('task body')
    }
    assert.deepEqual(cpu.log, [0xf1, 'task body', 'task body'])
  })

  test('D-058: it is taken exactly one instruction after enabling', () => {
    const { cpu, core, selfIpi } = processor('xAPIC')
    selfIpi(0xf1)
    core.sti()
    const taken: number[] = []
    for (let instruction = 0; instruction < 2; instruction++) {
      core.poll()
      taken.push(cpu.takeLog().length)
    }
    assert.deepEqual(taken, [1, 0])
  })
})

describe('a halted CPU', () => {
  test('D-059: with a request pending and interrupts on, it goes on at once', () => {
    const bench = new CoreBench(2)
    const [a, b] = bench.cpus
    b!.turnOn()
    a!.core.apic.sendCommand(1, 0x55)
    assert.equal(b!.core.hlt(0, still), true)
    assert.deepEqual(b!.log, [0x55])
    assert.equal(b!.core.state, 2, 'and is running again')
  })

  test('with a request pending and interrupts off, it does not', () => {
    const { cpu, core, selfIpi } = processor('xAPIC')
    selfIpi(0x55)
    assert.equal(core.hlt(0, still), false)
    assert.deepEqual(cpu.log, [])
  })

  test('with a request of a blocked class, it does not', () => {
    const { cpu, core, selfIpi, setTpr } = processor('xAPIC')
    cpu.turnOn()
    setTpr(0xf0)
    selfIpi(0x55)
    assert.equal(core.hlt(0, still), false)
    assert.deepEqual(cpu.log, [])
  })
})

describe('several vectors', () => {
  test('D-060: EOI releases the lower one; for all pairs from 21h to FFh', () => {
    const { apic, cpu, core, selfIpi } = processor('xAPIC')
    for (let low = 0x21; low <= 0xff; low++) {
      for (let high = low + 1; high <= 0xff; high++) {
        core.cli()
        selfIpi(low)
        selfIpi(high)
        cpu.turnOn()
        const runs = cpu.takeLog()
        assert.ok(runs.length === 2 && runs[0] === high && runs[1] === low, `${low}, ${high}`)
        assert.ok(!apic.irr(low) && !apic.irr(high))
      }
    }
  })

  test('D-061: a higher vector waits for the flag, though the handler has done its EOI', () => {
    const { apic, cpu, core, selfIpi } = processor('xAPIC')
    cpu.handlers.gates[0x64] = (vector) => {
      cpu.log.push(vector)
      selfIpi(0x84)
      core.poll()
      apic.eoi()
      core.poll()
      cpu.log.push('end of 64h')
    }
    cpu.turnOn()
    selfIpi(0x64)
    core.poll()
    assert.deepEqual(cpu.log, [0x64, 'end of 64h', 0x84])
  })

  test('D-062: 66h, then 78h: the higher goes first, and both interrupt the same place', () => {
    const { apic, cpu, core, selfIpi } = processor('xAPIC')
    let position = 'before'
    for (const vector of [0x66, 0x78]) {
      cpu.handlers.gates[vector] = () => {
        cpu.log.push(vector, position)
        apic.eoi()
      }
    }
    selfIpi(0x66)
    selfIpi(0x78)
    core.sti()
    position = 'NOP'
    core.poll()
    position = 'after'
    core.poll()
    assert.deepEqual(cpu.log, [0x78, 'NOP', 0x66, 'NOP'])
  })

  test('a handler that opens interrupts before its EOI is nested by higher classes only', () => {
    const { apic, cpu, core, selfIpi } = processor('xAPIC')
    cpu.handlers.gates[0x50] = (vector) => {
      cpu.log.push(vector)
      for (const other of [0x40, 0x5f, 0x60]) selfIpi(other)
      core.sti()
      core.poll()
      core.cli()
      cpu.log.push('EOI')
      apic.eoi()
    }
    cpu.turnOn()
    selfIpi(0x50)
    core.poll()
    assert.deepEqual(cpu.log, [0x50, 0x60, 'EOI', 0x5f, 0x40])
  })
})
