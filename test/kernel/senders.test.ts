/**
 * The four senders over the three APIC drivers: whom each reaches, in what order, from what context.
 * Rows D-201 to D-204 of docs/conformance.md, and the book's claims F-01, F-02 and F-21 to F-25.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CpuMask } from '../../src/base/cpu-mask.ts'
import { CPU, HEADER, LINE_WORDS, PAGE_WORDS } from '../../src/hardware/layout.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import { APIC, APIC_DRIVERS, KernelBench } from '../support/kernel-bench.ts'
import { interposeSafepoints, recordCommands, requested } from '../support/kernel-spies.ts'

const VECTOR = 0x60
const OTHER_VECTOR = 0x61
const HANDLER_VECTOR = 0x71
const EVERYBODY = [0, 1, 2, 3]

/** All masks of CPUs 0 to 3. */
const ALL_MASKS = Array.from({ length: 16 }, (_, bits) =>
  EVERYBODY.filter((cpu) => (bits & (1 << cpu)) !== 0),
)

function pollAll(bench: KernelBench): void {
  for (const { cpu } of bench.kernels) bench.poll(cpu.id)
}

for (const apic of APIC_DRIVERS) {
  describe(`senders of the ${apic} driver`, () => {
    test('D-201 with one CPU online, sendIpiAllButSelf writes nothing', () => {
      const bench = new KernelBench(4, { apic, online: [2] })
      const { cpu, senders } = bench.kernel(2)
      const sent = recordCommands(cpu)
      senders.sendIpiAllButSelf(VECTOR)
      assert.deepEqual(sent, [])
      assert.equal(cpu.readCount(2, EVENT.ipisSent), 0)
      assert.equal(cpu.readCount(2, EVENT.ipisAvoided), 1)
    })

    test('F-01 every CPU reaches every set of CPUs by mask, each of them exactly once', () => {
      const bench = new KernelBench(4, { apic })
      const counts = bench.countIrqs(VECTOR)
      for (const sender of EVERYBODY) {
        for (const mask of ALL_MASKS) {
          counts.fill(0)
          bench.kernel(sender).senders.sendIpiMask(CpuMask.from(mask), VECTOR)
          pollAll(bench)
          const expected = EVERYBODY.map((cpu) => (mask.includes(cpu) ? 1 : 0))
          assert.deepEqual(counts, expected, `from ${sender} to {${mask.join()}}`)
        }
      }
    })

    test('F-22 sendIpiAll reaches all, F-23 sendIpiAllButSelf all but the sender', () => {
      const bench = new KernelBench(4, { apic })
      const counts = bench.countIrqs(VECTOR)
      for (const sender of EVERYBODY) {
        counts.fill(0)
        bench.kernel(sender).senders.sendIpiAll(VECTOR)
        pollAll(bench)
        assert.deepEqual(counts, [1, 1, 1, 1])
        counts.fill(0)
        bench.kernel(sender).senders.sendIpiAllButSelf(VECTOR)
        pollAll(bench)
        assert.deepEqual(
          counts,
          EVERYBODY.map((cpu) => (cpu === sender ? 0 : 1)),
        )
      }
    })

    test('F-24 sendIpiSelf is taken at once with interrupts on', () => {
      const bench = new KernelBench(2, { apic })
      const counts = bench.countIrqs(VECTOR)
      bench.kernel(1).senders.sendIpiSelf(VECTOR)
      assert.deepEqual(counts, [0, 1])
      pollAll(bench)
      assert.deepEqual(counts, [0, 1], 'and by nobody else, and not again')
    })

    for (const [what, send] of [
      ['sendIpiSelf', (s) => s.sendIpiSelf(VECTOR)],
      ['sendIpiAll', (s) => s.sendIpiAll(VECTOR)],
      ['sendIpiMask', (s) => s.sendIpiMask(CpuMask.of(0, 1), VECTOR)],
    ] as [string, (senders: ReturnType<KernelBench['kernel']>['senders']) => void][]) {
      test(`F-22, F-24 the own copy of ${what} waits until interrupts are on`, () => {
        const bench = new KernelBench(2, { apic })
        const counts = bench.countIrqs(VECTOR)
        const { cpu, senders } = bench.kernel(0)
        cpu.localIrqDisable()
        send(senders)
        bench.poll(0)
        assert.equal(counts[0], 0)
        assert.deepEqual(requested(cpu), [VECTOR])
        cpu.localIrqEnable()
        assert.equal(counts[0], 1)
      })
    }

    test('F-25 an empty mask sends nothing and is counted', () => {
      const { cpu, senders } = new KernelBench(2, { apic }).kernel(0)
      const sent = recordCommands(cpu)
      senders.sendIpiMask(CpuMask.of(), VECTOR)
      assert.deepEqual(sent, [])
      assert.equal(cpu.readCount(0, EVENT.emptyMasks), 1)
    })

    test('F-21 the senders work in a task, with interrupts off, in handlers, softirqs and NMIs', () => {
      const bench = new KernelBench(3, { apic })
      const counts = bench.countIrqs(VECTOR)
      const { cpu, senders, softirqs, idt } = bench.kernel(0)
      const sendEverything = (): void => {
        senders.sendIpiAll(VECTOR)
        pollOthers()
        senders.sendIpiAllButSelf(VECTOR)
        pollOthers()
        senders.sendIpiMask(CpuMask.of(0, 1, 2), VECTOR)
        pollOthers()
      }
      const pollOthers = (): void => [1, 2].forEach((other) => bench.poll(other))
      const contexts: [string, () => void][] = [
        ['task', sendEverything],
        [
          'interrupts off',
          () => {
            cpu.localIrqDisable()
            sendEverything()
            cpu.localIrqEnable()
          },
        ],
        ['handler', () => senders.sendIpiSelf(HANDLER_VECTOR)],
        [
          'softirq',
          () => {
            softirqs.openSoftirq(7, sendEverything)
            softirqs.raiseSoftirq(7)
            senders.sendIpiSelf(OTHER_VECTOR)
          },
        ],
        [
          'NMI',
          () => {
            cpu.handlers.nmi = sendEverything
            cpu.descriptors[0]!.postNmi()
            bench.poll(0)
          },
        ],
      ]
      idt.requestIrq(HANDLER_VECTOR, 'sends', sendEverything)
      idt.requestIrq(OTHER_VECTOR, 'empty', () => undefined)
      for (const [context, run] of contexts) {
        counts.fill(0)
        run()
        bench.poll(0)
        assert.deepEqual(counts.slice(1), [3, 3], `sent from: ${context}`)
        // Of two copies for itself that wait for interrupts to be on, one is remembered.
        assert.ok(counts[0]! >= 1 && counts[0]! <= 2, `own copies, sent from: ${context}`)
      }
    })

    test('F-02 a sender touches its own page, its own counts and the descriptor of the target', () => {
      const bench = new KernelBench(4, { apic })
      const { memory } = bench
      const { senders } = bench.kernel(1)
      // The first send makes the sender's private map of the APICs.
      senders.sendIpiCpu(3, VECTOR)
      bench.poll(3)
      const changed = bench.wordsChangedBy(() => senders.sendIpiCpu(2, OTHER_VECTOR))
      const counts = memory.cpuPage(1) + CPU.eventCounts
      const allowed: [first: number, words: number][] = [
        [memory.apicPage(1), PAGE_WORDS],
        [counts, LINE_WORDS],
        [memory.cpuPage(2) + CPU.pir, LINE_WORDS],
      ]
      const others = changed.filter(
        (at) => !allowed.some(([first, words]) => at >= first && at < first + words),
      )
      assert.deepEqual(others, [])
      assert.ok(changed.includes(memory.cpuPage(2) + CPU.attention))
    })

    test('B6.8 CPUs that are not online take nothing, by shorthand or by mask', () => {
      const bench = new KernelBench(4, { apic })
      const counts = bench.countIrqs(VECTOR)
      const leaver = bench.kernel(3).cpu
      leaver.memory.clearCpu(HEADER.onlineMask, 3)
      if (apic === 'x2apic') leaver.apic.writeMsr(0x80f, 0xffn)
      else leaver.apic.write(APIC.svr, 0xff)
      bench.kernel(0).senders.sendIpiAllButSelf(VECTOR)
      pollAll(bench)
      assert.deepEqual(counts, [0, 1, 1, 0])
      // Only the shorthand asks the APIC of a CPU that is not in the online map.
      assert.equal(leaver.apic.statistics.discarded, apic === 'flat' ? 1 : 0)
    })
  })
}

describe('commands that are addressed in two writes', () => {
  test('D-203 bigsmp sends to {3,1,2} in three pairs, ascending, interrupts off throughout', () => {
    const bench = new KernelBench(4, { apic: 'bigsmp' })
    const { cpu, senders } = bench.kernel(0)
    const taken: string[] = []
    bench.kernel(0).idt.requestIrq(HANDLER_VECTOR, 'between', () => void taken.push('handler'))
    const sent = recordCommands(cpu)
    interposeSafepoints(cpu, () => {
      cpu.apic.raise(HANDLER_VECTOR)
      bench.poll(0)
      taken.push('access')
    })
    senders.sendIpiMask(CpuMask.from([3, 1, 2]), VECTOR)
    assert.deepEqual(sent, [
      { destination: 0x0200_0000, command: 0x800 + VECTOR, irqsDisabled: true },
      { destination: 0x0400_0000, command: 0x800 + VECTOR, irqsDisabled: true },
      { destination: 0x0800_0000, command: 0x800 + VECTOR, irqsDisabled: true },
    ])
    assert.equal(taken.indexOf('handler'), taken.length - 1, 'taken once, after the last access')
    assert.equal(cpu.irqsDisabled, false, 'and the flag is restored')
  })

  test('D-203 flat sends to {3,1,2} in one pair with interrupts off, x2apic in three single writes', () => {
    for (const [apic, expected] of [
      ['flat', [{ destination: 0x0e00_0000, command: 0x800 + VECTOR, irqsDisabled: true }]],
      [
        'x2apic',
        [1, 2, 3].map((destination) => ({ destination, command: VECTOR, irqsDisabled: false })),
      ],
    ] as const) {
      const { cpu, senders } = new KernelBench(4, { apic }).kernel(0)
      const sent = recordCommands(cpu)
      senders.sendIpiMask(CpuMask.from([3, 1, 2]), VECTOR)
      assert.deepEqual(sent, expected)
    }
  })

  /**
   * Sends VECTOR to CPU 1 by `send`, with an interrupt at access number `position` whose handler
   * sends OTHER_VECTOR to CPU 3. Gives who got what, or undefined if there is no such access.
   */
  function tear(
    apic: 'flat' | 'bigsmp',
    position: number,
    send: (bench: KernelBench) => void,
  ): readonly number[][] | undefined {
    const bench = new KernelBench(4, { apic })
    const { cpu, senders, idt } = bench.kernel(0)
    const got = [VECTOR, OTHER_VECTOR].map((vector) => bench.countIrqs(vector))
    idt.requestIrq(HANDLER_VECTOR, 'sends', () => senders.sendIpiMask(CpuMask.of(3), OTHER_VECTOR))
    let accesses = 0
    interposeSafepoints(cpu, () => {
      if (accesses++ !== position) return
      cpu.apic.raise(HANDLER_VECTOR)
      bench.poll(0)
    })
    send(bench)
    bench.poll(0)
    if (accesses <= position) return undefined
    pollAll(bench)
    return got
  }

  /** What send_IPI_mask_bitmask does to the registers, with or without its interrupts-off section. */
  function byHand(bench: KernelBench, section: boolean): void {
    const { cpu } = bench.kernel(0)
    const flags = section && cpu.localIrqSave()
    // CPU 1's logical ID is 02h on flat and on bigsmp.
    cpu.apic.write(APIC.icr2, 0x02 << 24)
    cpu.apic.write(APIC.icr, 0x800 | VECTOR)
    cpu.localIrqRestore(flags)
  }

  const INTACT = [
    [0, 1, 0, 0],
    [0, 0, 0, 1],
  ]

  for (const apic of ['flat', 'bigsmp'] as const) {
    test(`D-204 without the section a handler tears the destination (${apic})`, () => {
      const outcomes: string[] = []
      for (let position = 0; ; position++) {
        const got = tear(apic, position, (bench) => byHand(bench, false))
        if (got === undefined) break
        outcomes.push(JSON.stringify(got))
      }
      const torn = JSON.stringify([
        [0, 0, 0, 1],
        [0, 0, 0, 1],
      ])
      assert.ok(outcomes.includes(torn), 'VECTOR, meant for CPU 1, arrives at CPU 3')
      assert.ok(outcomes.includes(JSON.stringify(INTACT)), 'but only between the two writes')
    })

    test(`D-204 with the section in place it never does (${apic})`, () => {
      const senders: [string, (bench: KernelBench) => void][] = [
        ['by hand', (bench) => byHand(bench, true)],
        ['sendIpiMask', (b) => b.kernel(0).senders.sendIpiMask(CpuMask.of(1), VECTOR)],
        ['sendIpiCpu', (b) => b.kernel(0).senders.sendIpiCpu(1, VECTOR)],
      ]
      for (const [what, send] of senders) {
        let position = 0
        for (; ; position++) {
          const got = tear(apic, position, send)
          if (got === undefined) break
          assert.deepEqual(got, INTACT, `${what}, interrupted at access ${position}`)
        }
        assert.ok(position >= 2, `${what} was interrupted before and after its command`)
      }
    })
  }
})
