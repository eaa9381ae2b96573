/**
 * Bringing a CPU up: the wake-up sequence, the order of the maps, and a thread that never arrives.
 * Rows D-226 and D-227 of docs/conformance.md; the sequence is B12.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createMachine, thisMachine } from '../../src/index.ts'
import { CPU, CPU_STATE, HEADER } from '../../src/hardware/layout.ts'
import { Secondary } from '../../src/kernel/secondary.ts'
import { KernelBench } from '../support/kernel-bench.ts'
import { recordCommands, spyBefore } from '../support/kernel-spies.ts'
import { advance, blockOn, identify, stayUntil, waitFor, WORD } from '../support/kernel-tasks.ts'
import { bootThreads } from '../support/kernel-threads.ts'

const MAPS = ['calloutMask', 'callinMask', 'commencedMask', 'onlineMask'] as const

/** Which of the maps a CPU is in. */
function mapsOf(
  memory: { testCpu(at: number, cpu: number): boolean },
  cpu: number,
): (typeof MAPS)[number][] {
  return MAPS.filter((map) => memory.testCpu(HEADER[map], cpu))
}

describe('D-226 the order of the maps', () => {
  test('D-226 the AP: callout, callin, commenced, online, and interrupts on only after that', () => {
    const bench = new KernelBench(2, { online: [0] })
    const kernel = bench.powerOn(1)
    const { cpu, driver } = kernel
    const secondary = new Secondary(kernel, [], 1000)
    const order: string[] = []
    const note = (what: string): void => {
      order.push(`${what}: ${mapsOf(bench.memory, 1).join() || 'none'}, IF ${+!cpu.irqsDisabled}`)
    }
    spyBefore(cpu.memory, 'setCpu', (at) => {
      const map = MAPS.find((each) => HEADER[each] === at)
      note(`before ${map}`)
      // The boot CPU, which sees the AP call in, releases it.
      if (map === 'callinMask') bench.memory.setCpu(HEADER.commencedMask, 1)
    })
    spyBefore(driver, 'open', () => note('before the door opens'))
    spyBefore(cpu, 'localIrqEnable', () => note('before STI'))
    void secondary.powerOn()
    assert.equal(bench.memory.readCpu(1, CPU.state), CPU_STATE.waitingForSipi)

    const { apic } = bench.kernel(0).cpu
    const wake = (): void => {
      apic.sendCommand(1, 0xc500)
      apic.sendCommand(1, 0x8500)
      apic.sendCommand(1, 0x069f)
    }
    bench.memory.setCpu(HEADER.calloutMask, 1)
    wake()
    cpu.core.initBlocked = false
    bench.poll(1)
    assert.deepEqual(order, [
      'before callinMask: calloutMask, IF 0',
      'before the door opens: calloutMask,callinMask,commencedMask, IF 0',
      'before onlineMask: calloutMask,callinMask,commencedMask, IF 0',
      'before STI: calloutMask,callinMask,commencedMask,onlineMask, IF 0',
    ])
    assert.equal(cpu.irqsDisabled, false)
  })

  test('D-226 the boot CPU: callout to a CPU that waits, commenced to one that has called in', async () => {
    const machine = createMachine({ maxCpus: 2 })
    try {
      const { memory } = machine.cpu
      const order: string[] = []
      spyBefore(memory, 'setCpu', (at, cpu) => {
        const map = MAPS.find((each) => HEADER[each] === at)
        if (map === undefined) return
        const waits = memory.readCpu(cpu as number, CPU.state) === CPU_STATE.waitingForSipi
        order.push(
          `${map} after ${mapsOf(memory, cpu as number).join() || 'none'}, waits: ${waits}`,
        )
      })
      const sent = recordCommands(machine.cpu)
      assert.equal(await machine.cpuUp(), 1)
      // Whether the AP, once woken, is seen waiting is its own affair.
      assert.match(order[0]!, /^calloutMask after none/)
      assert.match(order[1]!, /^commencedMask after calloutMask,callinMask/)
      assert.equal(order.length, 2)
      assert.deepEqual(mapsOf(memory, 1), [...MAPS])

      const toCpu1 = sent.filter(({ command }) => (command & 0x700) !== 0)
      assert.deepEqual(
        toCpu1.map(({ destination, command }) => [destination, command]),
        [
          [0x0100_0000, 0x0000_c500],
          [0x0100_0000, 0x0000_8500],
          [0x0100_0000, 0x0000_069f],
          [0x0100_0000, 0x0000_069f],
        ],
        'G1: INIT assert, INIT de-assert, two start-ups to page 9Fh',
      )
    } finally {
      await machine.close()
    }
  })

  test('D-226 all CPUs are in all maps after boot, and a late joiner too', async () => {
    await using threads = await bootThreads({ cpus: 3, maxCpus: 4 })
    const { machine } = threads
    const { memory } = machine.cpu
    for (const map of MAPS) assert.equal(memory.readMask(HEADER[map]).toString(), '0-2')
    assert.equal(await machine.cpuUp(), 3)
    for (const map of MAPS) assert.equal(memory.readMask(HEADER[map]).toString(), '0-3')
    assert.equal((await machine.smpCallFunctionSingle(3, identify)).cpu, 3)
    await machine.cpuDown(2)
    for (const map of MAPS) assert.equal(memory.readMask(HEADER[map]).toString(), '0-1,3')
    assert.equal(await machine.cpuUp(), 2, 'the lowest free number')
  })
})

describe('D-227 an AP that does not come', () => {
  test('D-227 that never calls in: failure after the limit, the number can be used again', async () => {
    await using threads = await bootThreads({ cpus: 2, maxCpus: 3, bootTimeoutMs: 3000 })
    const { machine } = threads
    await machine.cpuhpSetupState('kernel.blockOn', { startup: blockOn }, 2)
    await assert.rejects(machine.cpuUp(2), (error: Error & { code?: string; cpu?: number }) => {
      assert.equal(error.code, 'IPI_BOOT_FAILED')
      assert.equal(error.cpu, 2)
      assert.match(error.message, /call in/)
      return true
    })
    const { memory } = machine.cpu
    assert.deepEqual(mapsOf(memory, 2), [])
    assert.equal(machine.presentMask.toString(), '0-1')
    await machine.cpuhpRemoveState('kernel.blockOn')
    assert.equal(await machine.cpuUp(2), 2)
    assert.equal((await machine.smpCallFunctionSingle(2, identify)).cpu, 2)
  })

  test('D-227 that never starts: boot fails after the limit and leaves nothing behind', async () => {
    const entry = new URL('../support/kernel-never.js', import.meta.url)
    await assert.rejects(bootThreads({ cpus: 2, entry, bootTimeoutMs: 400 }), {
      code: 'IPI_BOOT_FAILED',
      cpu: 1,
    })
    assert.throws(() => thisMachine(), { code: 'IPI_NOT_BOOTED' })
  })

  test('D-227 that ends before it starts: boot fails with its error', async () => {
    const entry = new URL('../support/no-such-module.js', import.meta.url)
    await assert.rejects(bootThreads({ cpus: 2, entry }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'IPI_BOOT_FAILED')
      assert.match(String(error.cause), /no-such-module/)
      return true
    })
  })
})

test('B12.5 a CPU that is up cannot be brought up, nor can an impossible one', async () => {
  await using threads = await bootThreads({ cpus: 2, maxCpus: 2 })
  const { machine } = threads
  await assert.rejects(machine.cpuUp(1), { code: 'IPI_CPU_ONLINE' })
  await assert.rejects(machine.cpuUp(2), { code: 'IPI_INVALID_CPU' })
  await assert.rejects(machine.cpuUp(), { code: 'IPI_NO_FREE_CPU' })
  await assert.rejects(machine.cpuDown(0), { code: 'IPI_CPU_BUSY' })
  await machine.smpCallFunctionSingle(1, stayUntil, 1, { wait: false })
  waitFor(WORD.arrived, 1)
  await assert.rejects(machine.cpuDown(1, { timeoutMs: 50 }), { code: 'IPI_TIMEOUT' })
  assert.equal(machine.onlineMask.toString(), '0-1', 'it stays')
  advance(WORD.gate)
  await machine.cpuDown(1)
  assert.equal(machine.onlineMask.toString(), '0')
})
