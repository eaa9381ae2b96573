/** The JavaScript stack of what a thread runs, below what interrupts it. */

/** The function through which every forced entry goes: what stands above it in a stack is ours. */
const MARK = 'interprocessorForcedEntry'
/** The function through which everything goes that can be aborted. */
export const GUARD = 'interprocessorGuard'
/** The same of entries at safepoints and in the event loop. */
const SAFEPOINT = /Core\.deliverInterrupts/
/** How the inspector stands in a stack, right below MARK: what it evaluates, or its listeners. */
const INSPECTOR = /at <anonymous>:1:\d+|\(node:inspector:/
/** Frames of the inspector and of this library, at most. */
const OWN_FRAMES_MAX = 32
/** Between MARK and the inspector's last frame, at most. */
const INSPECTOR_FRAMES_MAX = 10

/** Makes of a function an entry that `captureStack` knows. */
export function markEntry<End>(enter: (cpu: number) => End): (cpu: number) => End {
  // A method and not a function expression: bundlers drop the names of those.
  const entry = {
    interprocessorForcedEntry(cpu: number): End {
      return enter(cpu)
    },
  }
  return entry.interprocessorForcedEntry.bind(entry)
}

/**
 * The frames below the interrupt whose handler asks, newest first, a line for each as in
 * `Error.stack`: with `--enable-source-maps` of the sources. Empty where nothing ran. At most `limit`
 * frames. Any context.
 */
export function captureStack(limit: number): string {
  // What the program does with its own stacks is no affair of ours.
  const { stackTraceLimit } = Error
  const prepareStackTrace: unknown = Reflect.get(Error, 'prepareStackTrace')
  Reflect.deleteProperty(Error, 'prepareStackTrace')
  Error.stackTraceLimit = limit + OWN_FRAMES_MAX
  try {
    const lines = (new Error(MARK).stack ?? '').split('\n').slice(1)
    return interrupted(lines).slice(0, limit).join('\n')
  } finally {
    Error.stackTraceLimit = stackTraceLimit
    if (prepareStackTrace !== undefined) Reflect.set(Error, 'prepareStackTrace', prepareStackTrace)
  }
}

function interrupted(lines: readonly string[]): readonly string[] {
  const mark = lines.findIndex((line) => line.includes(MARK))
  // Neither: this very thread asks what it does.
  if (mark < 0) return lines.slice(Math.max(1, lines.findIndex((line) => SAFEPOINT.test(line)) + 1))
  const near = lines.slice(mark + 1, mark + 1 + INSPECTOR_FRAMES_MAX)
  // Its frames stand together; the first that it evaluates is the only one.
  let last = near.findIndex((line) => INSPECTOR.test(line))
  while (last >= 0 && INSPECTOR.test(near[last + 1] ?? '')) last++
  return lines.slice(mark + 2 + last)
}

/** A frame: the name of its function, and where that stands; undefined is the engine itself. */
export interface Site {
  readonly name: string
  readonly file: string | undefined
}

/** `    at name (file:line:column)`, or without a name. */
const LINE = /^\s+at (?:(.*?) \()?(.*?)(:\d+:\d+)?\)?$/
/** Where code without a file stands, `eval` and `new Function`. */
const EVAL = 'eval'

/**
 * What a forced entry in whose middle this is called has interrupted, newest frame first, all of it.
 */
export function captureSites(): readonly Site[] {
  const { stackTraceLimit } = Error
  const prepareStackTrace: unknown = Reflect.get(Error, 'prepareStackTrace')
  Error.stackTraceLimit = Infinity
  Reflect.set(Error, 'prepareStackTrace', (_: Error, sites: NodeJS.CallSite[]) => sites)
  try {
    const holder: { stack?: NodeJS.CallSite[] | string } = {}
    Error.captureStackTrace(holder)
    const { stack = '' } = holder
    // A string where V8 writes a stack just now, and calls Node to help: it does not within that
    // (`src/execution/messages.cc`, ErrorUtils::FormatStackTrace).
    const sites =
      typeof stack === 'string' ? stack.split('\n').slice(1).map(siteOfLine) : stack.map(siteOf)
    const mark = sites.findIndex((site) => site.name.includes(MARK))
    // What the inspector has evaluated to come in has no file.
    const evaluated = sites.findIndex((site, i) => i > mark && site.file === '')
    return sites.slice(evaluated + 1)
  } finally {
    Error.stackTraceLimit = stackTraceLimit
    if (prepareStackTrace === undefined) Reflect.deleteProperty(Error, 'prepareStackTrace')
    else Reflect.set(Error, 'prepareStackTrace', prepareStackTrace)
  }
}

function siteOf(site: NodeJS.CallSite): Site {
  const file = site.getFileName() ?? (site.isEval() ? EVAL : undefined)
  return { name: site.getFunctionName() ?? '', file }
}

function siteOfLine(line: string): Site {
  const [, name = '', place = '', position] = LINE.exec(line) ?? []
  if (place.startsWith('eval at ')) return { name, file: EVAL }
  if (place !== '<anonymous>') return { name, file: place }
  return { name, file: position === undefined ? undefined : '' }
}

/** The number of the message that asks for a sample: node-sampler.ts. */
export const SAMPLE_ID = 4
/** Frames of a sample, at most. */
const SAMPLE_FRAMES_MAX = 64

/** Makes the function that gives the stack below, where it is called by the inspector. */
export function stackBelow(): () => string {
  let stack = ''
  const look = markEntry(() => {
    stack = captureStack(SAMPLE_FRAMES_MAX)
  })
  return () => {
    look(0)
    return stack
  }
}

/**
 * Makes what a thread answers with that is sampled: its stack by number, and itself the first time.
 * `isNew`: somebody asks who knows none.
 */
export function sampleStacks(): (isNew?: boolean) => string {
  const numbers = new Map<string, number>()
  const look = stackBelow()
  return (isNew) => {
    if (isNew === true) numbers.clear()
    const stack = look()
    const known = numbers.get(stack)
    if (known !== undefined) return String(known)
    numbers.set(stack, numbers.size)
    return `${numbers.size - 1}\n${stack}`
  }
}
