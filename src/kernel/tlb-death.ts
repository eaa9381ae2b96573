/**
 * What a dead CPU leaves behind in the address spaces: copies that nobody needs to ask for, records that
 * it reserved and did not write, keys that it broke, fills that it had begun. As in kernel/death.ts every
 * step may be repeated, by several at once.
 */

import {
  FILL_LOCK_COUNT,
  MM_COUNT_MAX,
  SPACE,
  spaceLog,
  TLB,
  TLB_STATE,
} from '../hardware/layout.ts'
import { store } from '../hardware/memory.ts'
import { BrokenKeys } from './broken-keys.ts'
import type { Cpu } from './cpu.ts'
import { FLUSH, FlushLog } from './flush-log.ts'
import { isMm, vmMask } from './mm.ts'
import { RobustLock } from './robust-lock.ts'

/** Takes a dead CPU out of every address space. Its state says that it is dead. */
export function buryTranslations(cpu: Cpu, dead: number): void {
  const { memory, platform } = cpu
  for (let mm = 0; mm < MM_COUNT_MAX; mm++) {
    memory.clearCpu(vmMask(mm), dead)
    store(memory.words, memory.tlbLine(dead, mm) + TLB.state, TLB_STATE.off)
    if (!isMm(memory, mm)) continue
    const log = new FlushLog(memory, mm, platform.processors)
    // What it had reserved it had changed: readers go past it, and forget everything there.
    log.reap()
    const hashes = new BrokenKeys(cpu, mm).reap(dead)
    if (hashes.length > 0) {
      log.append(hashes.map((hash) => ({ kind: FLUSH.broken, from: hash, to: 0 })))
    }
    const locks = spaceLog(memory, mm) + SPACE.fillLocks
    for (let lock = 0; lock < FILL_LOCK_COUNT; lock++)
      new RobustLock(cpu, locks + lock).recover(dead)
  }
}
