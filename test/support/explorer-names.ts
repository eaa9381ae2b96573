/** The names of a machine's words, for tables of schedules. */

import {
  apicPage,
  CPU,
  HEADER,
  LINE_WORDS,
  machineWords,
  MM_COUNT_MAX,
  PAGE_WORDS,
  PRIORITY_COUNT,
  ringCells,
  SLOT,
  SPACE,
  spaceLog,
  TASK_SLOT,
  TASK_SLOT_WORDS,
  TLB,
  type MachineSize,
} from '../../src/hardware/layout.ts'

/** A part of the map that comes again and again: how many words each has, and what is in one. */
interface Part {
  readonly name: string
  readonly words: number
  readonly count: number
  readonly fields?: Readonly<Record<string, number>>
}

/** The name of a word: of the field it belongs to, and how far behind that it is. */
export function nameOfWord(size: MachineSize, at: number): string {
  if (at >= machineWords(size)) return `[${at}]`
  const firstLog = spaceLog(size, 0)
  const firstBlock = apicPage(size, 0)
  if (at < firstLog) return field(HEADER, at)
  if (at < firstBlock) {
    const words = spaceLog(size, 1) - firstLog
    const mm = Math.floor((at - firstLog) / words)
    return mm < MM_COUNT_MAX ? `mm${mm}.${field(SPACE, (at - firstLog) % words)}` : `[${at}]`
  }
  const words = apicPage(size, 1) - firstBlock
  const cpu = Math.floor((at - firstBlock) / words)
  const offset = (at - firstBlock) % words
  if (offset < PAGE_WORDS) return `apic${cpu}.${(offset * 4).toString(16)}h`
  if (offset < 2 * PAGE_WORDS) return `${field(CPU, offset - PAGE_WORDS)}${cpu}`
  return inBlock(size, cpu, offset - 2 * PAGE_WORDS)
}

function inBlock(size: MachineSize, cpu: number, offset: number): string {
  const parts: readonly Part[] = [
    { name: 'tlb', words: LINE_WORDS, count: PAGE_WORDS / LINE_WORDS, fields: TLB },
    { name: 'slot', words: size.slotWords, count: size.slotCount, fields: SLOT },
    { name: 'ring', words: ringCells(size), count: PRIORITY_COUNT },
    { name: 'task', words: TASK_SLOT_WORDS, count: size.taskCount, fields: TASK_SLOT },
  ]
  let rest = offset
  for (const { name, words, count, fields = {} } of parts) {
    if (rest < words * count) {
      const inside = field(fields, rest % words)
      return `${name}${cpu}.${Math.floor(rest / words)}.${inside}`
    }
    rest -= words * count
  }
  throw new Error(`word ${offset} is behind the block of CPU ${cpu}`)
}

/** The last field that begins no later than the word; a number where there is none. */
function field(fields: Readonly<Record<string, number>>, offset: number): string {
  let found: readonly [name: string, first: number] | undefined
  for (const entry of Object.entries(fields)) {
    if (entry[1] <= offset && (found === undefined || entry[1] >= found[1])) found = entry
  }
  if (found === undefined) return String(offset)
  return offset === found[1] ? found[0] : `${found[0]}+${offset - found[1]}`
}
