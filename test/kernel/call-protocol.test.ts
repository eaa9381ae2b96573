/**
 * The call-function protocol step by step, on both call drivers: what is sent, what stands in shared
 * memory when, who may call. Rows D-200 and D-230 of docs/conformance.md; the book's claims F-04,
 * F-06 and F-09.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU, HEADER, SLOT } from '../../src/hardware/layout.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import { hashName } from '../../src/kernel/functions.ts'
import { holderOf } from '../../src/kernel/robust-lock.ts'
import { Secondary } from '../../src/kernel/secondary.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import { CpuMask } from '../../src/base/cpu-mask.ts'
import { CALL_DRIVERS, forEachApicDriver, KernelBench } from '../support/kernel-bench.ts'
import { recordCommands, spyBefore } from '../support/kernel-spies.ts'

const { CALL_FUNCTION_VECTOR } = VECTOR
const DEADLOCK = { code: 'IPI_WOULD_DEADLOCK' }

for (const callDriver of CALL_DRIVERS) {
  describe(`call function over ${callDriver}`, () => {
    test('D-200 alone, smpCallFunction sends nothing, takes no lock and checks nothing', async () => {
      const bench = new KernelBench(4, { callDriver, online: [1] })
      const { cpu, calls } = bench.kernel(1)
      bench.share('never', () => () => assert.fail('it runs on others only'))
      const sent = recordCommands(cpu)
      const slots = [
        bench.memory.slots(1),
        bench.memory.slotCount * bench.memory.slotWords,
      ] as const
      cpu.localIrqDisable()
      const changed = bench.wordsChangedBy(() => {
        void calls.all('never', 0)
        assert.deepEqual(calls.allSync('never', 0), new Map())
      })
      assert.deepEqual(await calls.all('never', 0), new Map())
      assert.deepEqual(sent, [])
      assert.equal(bench.memory.words[HEADER.callLock], 0)
      assert.deepEqual(
        changed.filter((at) => at < bench.memory.apicPage(0) || at >= slots[0]),
        [],
        'neither the header nor a request slot was touched',
      )
    })

    test('D-230 with interrupts off a call is refused, before anything is sent', async () => {
      const bench = new KernelBench(2, { callDriver })
      const { cpu, calls } = bench.kernel(0)
      bench.share('never', () => () => assert.fail('nothing was sent'))
      const sent = recordCommands(cpu)
      cpu.localIrqDisable()
      const mask = CpuMask.of(1)
      await assert.rejects(calls.all('never', 0), DEADLOCK)
      await assert.rejects(calls.single(1, 'never', 0), DEADLOCK)
      await assert.rejects(calls.single(1, 'never', 0, { wait: false }), DEADLOCK)
      await assert.rejects(calls.many(mask, 'never', 0), DEADLOCK)
      await assert.rejects(calls.any(mask, 'never', 0), DEADLOCK)
      await assert.rejects(calls.each('never', 0), DEADLOCK)
      assert.throws(() => calls.allSync('never', 0), DEADLOCK)
      assert.throws(() => calls.singleSync(1, 'never', 0), DEADLOCK)
      assert.throws(() => calls.manySync(mask, 'never', 0), DEADLOCK)
      assert.throws(() => calls.anySync(mask, 'never', 0), DEADLOCK)
      assert.throws(() => calls.eachSync('never', 0), DEADLOCK)
      await assert.rejects(bench.control(0).smpSendStop(), DEADLOCK)
      assert.deepEqual(sent, [])
      cpu.localIrqEnable()
    })

    test('D-230, B7.4 so it is in a handler, in a called function and in a softirq', async () => {
      const bench = new KernelBench(2, { callDriver })
      const { calls, idt, softirqs, cpu } = bench.kernel(0)
      bench.share('nothing', () => () => undefined)
      const refused: unknown[] = []
      const tryToCall = (): void => {
        try {
          calls.singleSync(1, 'nothing', 0)
        } catch (error) {
          refused.push((error as { code?: unknown }).code)
        }
      }
      idt.requestIrq(0x60, 'calls', () => {
        tryToCall()
        softirqs.raiseSoftirq(1)
      })
      softirqs.openSoftirq(1, tryToCall)
      cpu.apic.raise(0x60)
      cpu.poll()
      bench.share('calls', (kernel) => (kernel.cpu.id === 0 ? tryToCall : () => undefined))
      await bench.drive(bench.kernel(1).calls.single(0, 'calls', 0))
      assert.deepEqual(refused, Array(3).fill('IPI_WOULD_DEADLOCK'))
    })

    test('F-04 every other online CPU runs the function once with interrupts off, the sender never', async () => {
      const bench = new KernelBench(4, { callDriver, online: [0, 1, 3] })
      const ran: string[] = []
      bench.share('run', ({ cpu }) => (info: string) => {
        ran.push(`${info} on ${cpu.id}, interrupts ${cpu.irqsDisabled ? 'off' : 'on'}`)
        return cpu.id
      })
      for (const wait of [true, false]) {
        ran.length = 0
        const results = await bench.drive(bench.kernel(1).calls.all('run', 'it', { wait }))
        assert.deepEqual([...results.keys()], [0, 3])
        if (wait) assert.deepEqual([...results.values()], [0, 3])
        assert.deepEqual(ran.sort(), ['it on 0, interrupts off', 'it on 3, interrupts off'])
      }
    })

    test('F-04 a call-function interrupt that comes late or twice runs nothing', async () => {
      const bench = new KernelBench(3, { callDriver })
      let runs = 0
      bench.share('run', () => () => runs++)
      const { calls, senders } = bench.kernel(0)
      const call = calls.single(1, 'run', 0)
      bench.poll(1)
      for (let i = 0; i < 3; i++) {
        senders.sendIpiAllButSelf(CALL_FUNCTION_VECTOR)
        bench.poll(1)
        bench.poll(2)
      }
      await bench.drive(call)
      senders.sendIpiAllButSelf(CALL_FUNCTION_VECTOR)
      bench.poll(1)
      bench.poll(2)
      assert.equal(runs, 1)
      assert.equal(bench.kernel(2).cpu.readCount(2, EVENT.callsServed), 0)
    })

    test('B7.5 without wait the call returns once it has started everywhere, before it has run', async () => {
      const bench = new KernelBench(2, { callDriver })
      let answeredBefore: boolean | undefined
      const completed = (): boolean => {
        const { memory } = bench
        const words = memory.words
        return (
          words[memory.cpuPage(0) + CPU.completions] !== 0 &&
          (callDriver === 'queue' || memory.testCpu(HEADER.callStarted, 1))
        )
      }
      bench.share('look', () => () => (answeredBefore = completed()))
      await bench.drive(bench.kernel(0).calls.single(1, 'look', 0, { wait: false }))
      assert.equal(answeredBefore, true)
      await bench.drive(bench.kernel(0).calls.single(1, 'look', 0))
      assert.equal(answeredBefore, false, 'with wait, after it has run')
    })

    test('a request whose value went down with its sender holds up nobody else', async () => {
      const bench = new KernelBench(3, { callDriver })
      const [near, far] = bench.kernel(2).cpu.platform.createChannel()
      bench.kernel(2).values.setPort(1, near)
      bench.kernel(1).values.setPort(2, far)
      bench.share('echo', () => (info: unknown) => info)
      // A Map goes by port. CPU 2 dies, and is somebody else before CPU 1 has looked.
      void bench.kernel(2).calls.single(1, 'echo', new Map())
      await Promise.resolve()
      bench.kill(2, 0)
      bench.revive(2)
      const other = bench.kernel(0).calls.single(1, 'echo', 'small')
      assert.equal(await bench.drive(other), 'small')
      near.close()
    })

    test('a CPU that has left calls nobody any more: no answer would reach it', async () => {
      const bench = new KernelBench(3, { callDriver })
      const leaver = bench.kernel(2)
      const secondary = new Secondary(leaver, [], 1000)
      bench.share('leave', () => () => secondary.takeCpuDown())
      bench.share('nothing', () => () => undefined)
      await bench.drive(bench.kernel(0).calls.single(2, 'leave', 0))
      // The event loop has not turned, so the thread still runs what it was running.
      const late = bench.drive(leaver.calls.single(1, 'nothing', 0))
      await assert.rejects(late, { code: 'IPI_MACHINE_CLOSED' })
      assert.equal(bench.memory.words[HEADER.callLock], 0, 'and it holds no lock')
      await bench.drive(bench.kernel(0).calls.single(1, 'nothing', 0))
    })

    test('a CPU that died with calls out has all its slots back in its next life', async () => {
      const bench = new KernelBench(3, { callDriver })
      bench.share('nothing', () => () => undefined)
      const { calls } = bench.kernel(2)
      for (const wait of [true, false]) {
        void calls.single(1, 'nothing', 0, { wait })
        void calls.all('nothing', 0, { wait })
      }
      await Promise.resolve()
      bench.kill(2, 0)
      const { book } = bench.revive(2)
      await bench.drive(bench.kernel(0).calls.all('interprocessor.flushTlbAll', 0))
      assert.equal(book.openCount, 0)
      assert.equal(book.freeCount, bench.memory.slotCount)
    })

    test('a slot that was filled and never pushed comes back with the next life', () => {
      const bench = new KernelBench(3, { callDriver })
      bench.share('nothing', () => () => undefined)
      const { book, functions } = bench.kernel(2)
      book.fill([1], functions.resolve('nothing'), 0, true, undefined)
      assert.equal(book.freeCount, bench.memory.slotCount - 1)
      bench.kill(2, 0)
      assert.equal(bench.revive(2).book.freeCount, bench.memory.slotCount)
    })
  })
}

describe('F-06 the one global record of 2.6.11', () => {
  test('F-06 the record is complete and published before the interrupt, and idle after the call', async () => {
    const bench = new KernelBench(4, { callDriver: 'callData', apic: 'flat', online: [0, 1, 2] })
    const { memory } = bench
    const { words } = memory
    const { cpu, calls } = bench.kernel(0)
    bench.share('run', () => () => undefined)
    assert.equal(words[HEADER.callData], 0, 'idle before the first call: no dangling pointer')
    const seen: unknown[] = []
    spyBefore(cpu.apic, 'write', () => {
      const id = hashName('run')
      const inSlot = [1, 2].map((target) => {
        const at = memory.slot(words[HEADER.callSlots + target]!) + SLOT.function
        return words[at] === id.low && words[at + 1] === id.high
      })
      seen.push({
        lock: holderOf(words[HEADER.callLock]!),
        callData: holderOf(words[HEADER.callData]!),
        mask: memory.readMask(HEADER.callMask).toString(),
        started: memory.readMask(HEADER.callStarted).size,
        inSlot,
      })
    })
    const call = calls.all('run', 0)
    await Promise.resolve()
    assert.deepEqual(seen, [
      { lock: 0, callData: 0, mask: '1-2', started: 0, inSlot: [true, true] },
    ])
    bench.poll(1)
    assert.equal(memory.readMask(HEADER.callFinished).toString(), '1')
    assert.equal(holderOf(words[HEADER.callData]!), 0, 'published until the last target is through')
    await bench.drive(call)
    assert.equal(memory.readMask(HEADER.callStarted).toString(), '1-2')
    assert.equal(words[HEADER.callData], 0)
    assert.equal(words[HEADER.callLock], 0)
  })

  test('F-06 two initiators take turns: the second publishes when the first is through', async () => {
    const bench = new KernelBench(3, { callDriver: 'callData' })
    const { words } = bench.memory
    const ran: string[] = []
    bench.share(
      'run',
      ({ cpu }) =>
        (from: number) =>
          ran.push(`${from} on ${cpu.id}`),
    )
    const first = bench.kernel(0).calls.all('run', 0)
    const second = bench.kernel(1).calls.all('run', 1)
    await Promise.resolve()
    assert.equal(holderOf(words[HEADER.callData]!), 0)
    bench.poll(1)
    bench.poll(2)
    assert.deepEqual(ran.sort(), ['0 on 1', '0 on 2'])
    assert.equal(holderOf(words[HEADER.callData]!), 0)
    await bench.drive(Promise.all([first, second]))
    assert.deepEqual(ran.sort(), ['0 on 1', '0 on 2', '1 on 0', '1 on 2'])
    assert.equal(words[HEADER.callLock], 0)
  })

  forEachApicDriver((apic) => {
    test(`F-09 a call to all others goes out by sendIpiAllButSelf (${apic})`, async () => {
      const bench = new KernelBench(4, { callDriver: 'callData', apic })
      const { cpu, calls } = bench.kernel(0)
      bench.share('run', () => () => undefined)
      const sent = recordCommands(cpu)
      await bench.drive(calls.all('run', 0))
      const toOthers = sent.map(({ command, destination }) =>
        apic === 'flat' ? command : destination,
      )
      assert.deepEqual(
        toOthers,
        {
          flat: [0x000c_08fb],
          bigsmp: [0x0200_0000, 0x0400_0000, 0x0800_0000],
          x2apic: [1, 2, 3],
        }[apic],
      )
    })
  })
})

describe('the per-target queues of later kernels', () => {
  test('C1, F-12 a target that was told already is not interrupted again', async () => {
    const bench = new KernelBench(2, { callDriver: 'queue' })
    const { cpu, calls } = bench.kernel(0)
    bench.share('echo', () => (info: number) => info)
    const sent = recordCommands(cpu)
    const answers = Promise.all([1, 2, 3].map((info) => calls.single(1, 'echo', info)))
    await Promise.resolve()
    assert.equal(sent.length, 1)
    assert.deepEqual(await bench.drive(answers), [1, 2, 3])
    assert.equal(cpu.readCount(0, EVENT.ipisAvoided), 2)
  })

  test('C1 who waits is served first, both kinds in the order in which they came', async () => {
    const bench = new KernelBench(2, { callDriver: 'queue' })
    const { calls } = bench.kernel(0)
    const order: string[] = []
    bench.share('note', () => (name: string) => order.push(name))
    const all = ['a', 'B', 'c', 'D'].map((name) =>
      calls.single(1, 'note', name, { wait: name === name.toUpperCase() }),
    )
    await bench.drive(Promise.all(all))
    assert.deepEqual(order, ['B', 'D', 'a', 'c'])
  })
})
