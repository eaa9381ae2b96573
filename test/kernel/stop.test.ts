/**
 * Stopping all other CPUs for ever. Row D-225 of docs/conformance.md; the book's claim F-07. The
 * procedure is B8.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CPU_STATE } from '../../src/hardware/layout.ts'
import { ApicPage } from '../../src/hardware/apic/page.ts'
import { bootOn } from '../../src/kernel/boot.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import { nodePlatform } from '../../src/platform/node.ts'
import { THREAD_SCRIPT } from '../../src/worker.ts'
import { APIC, CALL_DRIVERS } from '../support/kernel-bench.ts'
import { nothing, stayUntil, waitFor, WORD, advance } from '../support/kernel-tasks.ts'
import { bootThreads, stateOf, until, type Threads } from '../support/kernel-threads.ts'

const SVR_ENABLED = 0x100
const NMI = 0x400

function svr(machine: Threads['machine'], cpu: number): number {
  return new ApicPage(machine.cpu.memory, cpu).load(APIC.svr)
}

for (const callDriver of CALL_DRIVERS) {
  test(`D-225 smpSendStop leaves one CPU online, the others halted, their APICs off (${callDriver})`, async () => {
    await using threads = await bootThreads({ cpus: 4, callDriver })
    const { machine } = threads
    const stopped = await machine.smpSendStop()
    assert.equal(stopped.toString(), '1-3')
    assert.equal(machine.onlineMask.toString(), '0')
    for (const cpu of [1, 2, 3]) {
      await until(() => stateOf(machine, cpu) === CPU_STATE.stopped, `CPU ${cpu} halts`)
      assert.equal(svr(machine, cpu) & SVR_ENABLED, 0)
    }
    assert.equal(svr(machine, 0) & SVR_ENABLED, 0, 'B8.1: the initiator disables its own, too')
    assert.equal(machine.cpu.irqsDisabled, false)

    // An NMI still wakes them; they halt again and stay stopped.
    for (let nmis = 1; nmis <= 2; nmis++) {
      for (const cpu of [1, 2, 3]) {
        machine.cpu.apic.sendCommand(1 << cpu, NMI | 0x800)
        const count = (): number => machine.cpu.readCount(cpu, EVENT.nmi)
        await until(() => count() === nmis, `CPU ${cpu} takes NMI ${nmis}`)
        assert.equal(stateOf(machine, cpu), CPU_STATE.stopped)
      }
    }
    // Maskable interrupts do nothing there.
    const taken = [1, 2, 3].map((cpu) => machine.interrupts().count('CAL', cpu))
    machine.sendIpiAllButSelf(0xfb)
    machine.cpu.apic.sendCommand(0, 0x000c_08fb)
    for (const cpu of [1, 2, 3]) machine.cpu.apic.sendCommand(1 << cpu, NMI | 0x800)
    for (const cpu of [1, 2, 3]) {
      await until(() => machine.cpu.readCount(cpu, EVENT.nmi) === 3, 'the NMI behind them is taken')
    }
    assert.deepEqual(
      [1, 2, 3].map((cpu) => machine.interrupts().count('CAL', cpu)),
      taken,
    )
  })

  test(`F-07 a second stop is a no-op, a call to the stopped fails at once (${callDriver})`, async () => {
    await using threads = await bootThreads({ cpus: 3, callDriver })
    const { machine } = threads
    await machine.smpSendStop()
    assert.equal((await machine.smpSendStop()).size, 0)
    // Out of the online map comes first; a call that finds the door open then is still served.
    for (const cpu of [1, 2]) {
      await until(() => stateOf(machine, cpu) === CPU_STATE.stopped, `CPU ${cpu} halts`)
    }
    assert.deepEqual(await machine.smpCallFunction(nothing), new Map())
    await assert.rejects(machine.smpCallFunctionSingle(1, nothing), { code: 'IPI_CPU_OFFLINE' })
    assert.throws(() => machine.sendIpiMask([1], 0x60), { code: 'IPI_CPU_OFFLINE' })
  })
}

test('B8.5 a CPU that takes no interrupts is named where no NMI gets in, the others are stopped', async () => {
  const { forced: _, ...platform } = nodePlatform(THREAD_SCRIPT)
  await using threads = await bootThreads({ cpus: 3 }, (options) => bootOn(platform, options))
  const { machine } = threads
  await machine.smpCallFunctionSingle(2, stayUntil, 1, { wait: false })
  waitFor(WORD.arrived, 1)
  await assert.rejects(machine.smpSendStop(), { code: 'IPI_TIMEOUT', cpus: [2] })
  assert.equal(machine.onlineMask.toString(), '0,2')
  // It does not return from its handler any more: the NMI is there.
  advance(WORD.gate)
  await until(() => stateOf(machine, 2) === CPU_STATE.stopped, 'CPU 2 halts')
})
