/** What is wrong with caches, and how they say so. */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { boot, createCache, type CacheOptions, type Machine } from '../../src/index.ts'
import { CPU, SPACE, spaceLog, TLB, TLB_STATE } from '../../src/hardware/layout.ts'
import { vmMask } from '../../src/kernel/mm.ts'
import { Provoked } from '../support/machine-codes.ts'

const provoked = new Provoked()
let machine: Machine
before(async () => {
  machine = await boot({ cpus: 1, maxCpus: 2 })
})
after(async () => {
  await machine.close()
  provoked.expect('bad-caches')
})

const walk = (): number => 1

describe('options', () => {
  const bad: Readonly<Record<string, object>> = {
    'no name': { walk },
    'an empty name': { name: '', walk },
    'max 0': { name: 'bad', walk, max: 0 },
    'max 1.5': { name: 'bad', walk, max: 1.5 },
    'ttl 0': { name: 'bad', walk, ttl: 0 },
    'neither walk nor store': { name: 'bad' },
    'both walk and store': { name: 'bad', walk, store: { get: walk, set: walk } },
    'a store that cannot be written': { name: 'bad', store: { get: walk } },
    'a type that nobody knows': { name: 'bad', walk, type: 'write-never' },
    'a policy that nobody knows': { name: 'bad', walk, onFenced: 'ignore' },
    'tags that are no function': { name: 'bad', walk, tags: ['a'] },
    'stampedes of nobody': { name: 'bad', walk, stampede: 'cluster' },
    'stale for less than nothing': { name: 'bad', walk, staleWhileRevalidate: -1 },
  }
  for (const [name, options] of Object.entries(bad)) {
    test(`${name}: refused`, () => {
      provoked.throws('IPI_INVALID_ARGUMENT', () =>
        createCache(machine, options as CacheOptions<string, number>),
      )
    })
  }

  test('a second cache of one name in one thread is refused, until the first is closed', () => {
    const first = createCache(machine, { name: 'twice', walk })
    provoked.throws('IPI_INVALID_ARGUMENT', () => createCache(machine, { name: 'twice', walk }))
    first.close()
    createCache(machine, { name: 'twice', walk }).close()
  })
})

describe('use', () => {
  test('what is no key, no range, no level is refused', async () => {
    const cache = createCache<string | number, number>(machine, { name: 'use', walk })
    const refused = (promise: Promise<unknown>): Promise<unknown> =>
      provoked.rejects('IPI_INVALID_ARGUMENT', promise)
    for (const key of [undefined, null, {}, Symbol('s'), Number.NaN]) {
      await refused(cache.fetch(key as string))
    }
    await refused(cache.flush(undefined as never))
    await refused(cache.flush([{}] as never))
    await refused(cache.flush({ range: [1.5, 2] }))
    await refused(cache.flush({ range: [-1, 2] }))
    await refused(cache.flush({} as never))
    await refused(cache.flush({ tag: 7 } as never))
    await refused(cache.flush('a', { until: 'whenever' as never }))
    await provoked.rejects('IPI_NOT_SUPPORTED', cache.set('a', 1))
    cache.close()
  })

  test('a flush that waits is refused in handlers; one that does not is not', async () => {
    const cache = createCache<string, number>(machine, { name: 'handler', walk })
    const vector = machine.allocVector()
    let waits: Promise<unknown> | undefined
    let sees: Promise<unknown> | undefined
    machine.requestIrq(vector, 'flushes', () => {
      waits = cache.flush('a').catch((error: unknown) => error)
      sees = cache.flush('a', { until: 'visible' })
    })
    machine.sendIpiSelf(vector)
    machine.cpu.poll()
    assert.ok(waits !== undefined && sees !== undefined)
    provoked.is('IPI_WOULD_DEADLOCK', await waits)
    await sees
    cache.close()
  })

  test('a flush that nobody answers says who, and is visible all the same', async () => {
    const cache = createCache<string, number>(machine, { name: 'late', walk })
    await cache.fetch('a')
    const { memory } = machine.cpu
    const mm = machine.kernel.tlb.findMm('cache late')
    // CPU 1 as it is in a loop that looks nowhere.
    memory.setCpu(vmMask(mm), 1)
    memory.words[memory.tlbLine(1, mm) + TLB.state] = TLB_STATE.active
    memory.words[memory.cpuPage(1) + CPU.state] = 2
    const error = await provoked.rejects('IPI_TIMEOUT', cache.flush('a', { timeoutMs: 5 }))
    assert.deepEqual((error as Error & { cpus?: number[] }).cpus, [1])
    assert.equal(cache.get('a'), undefined)
    const aborted = new AbortController()
    const reason = new Error('enough')
    const flushing = cache.flush('a', { signal: aborted.signal })
    aborted.abort(reason)
    await assert.rejects(flushing, reason)
    memory.words[memory.tlbLine(1, mm) + TLB.state] = TLB_STATE.off
    memory.words[memory.cpuPage(1) + CPU.state] = 0
    memory.clearCpu(vmMask(mm), 1)
    cache.close()
  })

  test('too many keys that are being changed: whoever comes last is told', async () => {
    const cache = createCache<string, number>(machine, { name: 'many', walk })
    const { words } = machine.cpu.memory
    const mm = machine.kernel.tlb.findMm('cache many')
    const table = spaceLog(machine.cpu.memory, mm) + SPACE.broken
    let end: () => void = () => undefined
    const gate = new Promise<void>((resolve) => (end = resolve))
    const changes = Array.from({ length: 64 }, (_, i) => cache.mutate(`k${i}`, () => gate))
    await provoked.rejects('IPI_CPU_BUSY', cache.mutate('one more', walk, { timeoutMs: 3 }))
    const waiting = cache.mutate('one more', () => 'changed')
    end()
    await Promise.all(changes)
    assert.equal(await waiting, 'changed')
    assert.ok(words.subarray(table, table + 128).every((word, at) => at % 2 === 1 || word === 0))
    cache.close()
  })

  test('onFenced: reject', async () => {
    const cache = createCache<string, number>(machine, { name: 'fenced', walk, onFenced: 'reject' })
    const fetching = cache.fetch('a')
    await cache.flush('a', { until: 'visible' })
    await provoked.rejects('IPI_FLUSHED', fetching)
    cache.close()
  })
})

test('with the driver of 2.6.11 there is no cache; of a closed machine neither', async () => {
  await machine.close()
  const literal = await boot({ cpus: 1, tlbDriver: 'tlbstate' })
  provoked.throws('IPI_NOT_SUPPORTED', () => createCache(literal, { name: 'a', walk }))
  await literal.close()
  const modern = await boot({ cpus: 1 })
  const cache = createCache<string, number>(modern, { name: 'a', walk })
  assert.equal(await cache.fetch('a'), 1)
  await modern.close()
  assert.equal(cache.get('a'), undefined)
  await provoked.rejects('IPI_MACHINE_CLOSED', cache.fetch('a'))
})
