/**
 * Profiles: how often each function was found running, by samples of all threads. In the kernel a
 * timer NMI takes them; here forced entries do. The format is that of Chrome's developer tools, which is
 * a profile of one thread: CPUs stand in it one behind the other, each below a frame of its own.
 */

import type { StackSample } from '../hardware/platform.ts'

/** What a `.cpuprofile` file has. Times are microseconds. */
export interface CpuProfile {
  readonly nodes: readonly ProfileNode[]
  readonly startTime: number
  readonly endTime: number
  /** The node that was found at each sample. */
  readonly samples: readonly number[]
  /** The time from the sample before, or from the start. */
  readonly timeDeltas: readonly number[]
}

/** A function, as it was called by those above it. */
export interface ProfileNode {
  readonly id: number
  readonly callFrame: CallFrame
  /** Samples that found it on top. */
  readonly hitCount: number
  readonly children: readonly number[]
}

/** Where a function stands; lines and columns begin at 0, and are -1 where it has none. */
export interface CallFrame {
  readonly functionName: string
  readonly scriptId: string
  readonly url: string
  readonly lineNumber: number
  readonly columnNumber: number
}

/** How to profile. */
export interface ProfileOptions {
  /** The time between two samples of a CPU, in milliseconds. Default 10, at least 1. */
  readonly intervalMs?: number
}

/** The samples of one CPU, or of what else has stacks. */
export interface ProfileTrack {
  /** What it is called in the profile. */
  readonly name: string
  readonly samples: readonly StackSample[]
}

/** From when to when, on the clock of the samples. */
export interface ProfileSpan {
  readonly startMs: number
  readonly endMs: number
}

/** How often each function was found running, on each CPU. `JSON.stringify` makes a `.cpuprofile`. */
export class MachineProfile {
  /** The CPUs that were sampled, ascending. */
  readonly cpus: readonly number[]
  readonly #tracks: ReadonlyMap<number, ProfileTrack>
  readonly #span: ProfileSpan

  /** @internal */
  constructor(tracks: ReadonlyMap<number, ProfileTrack>, span: ProfileSpan) {
    this.cpus = [...tracks.keys()]
    this.#tracks = tracks
    this.#span = span
  }

  /** One CPU alone; undefined for one that was not sampled. */
  ofCpu(cpu: number): CpuProfile | undefined {
    const track = this.#tracks.get(cpu)
    return track === undefined ? undefined : buildProfile([track], this.#span)
  }

  /** All of them, one behind the other. */
  toJSON(): CpuProfile {
    return buildProfile([...this.#tracks.values()], this.#span)
  }
}

const NO_PLACE = { scriptId: '0', url: '', lineNumber: -1, columnNumber: -1 } as const
/** "    at name (place)", "    at async name (place)", "    at place". */
const FRAME = /^\s*at (?:async )?(?:(?<name>.*) \((?<inner>.*)\)|(?<place>.*))$/
const PLACE = /^(?<url>.*):(?<line>\d+):(?<column>\d+)$/

/** Builds the profile of tracks that lasted as long, one behind the other. */
export function buildProfile(
  tracks: readonly ProfileTrack[],
  { startMs, endMs }: ProfileSpan,
): CpuProfile {
  const tree = new Tree()
  const samples: number[] = []
  const timeDeltas: number[] = []
  const spanUs = Math.round((endMs - startMs) * 1000)
  let lastUs = 0
  for (const [place, { name, samples: taken }] of tracks.entries()) {
    const top = tree.child(tree.root, { functionName: name, ...NO_PLACE })
    for (const { atMs, stack } of taken) {
      const node = stack === '' ? tree.idle : tree.find(top, stack)
      // A sample that was on its way at the end is one of the last moment.
      const offsetUs = Math.round((Math.min(Math.max(atMs, startMs), endMs) - startMs) * 1000)
      const atUs = place * spanUs + offsetUs
      node.hitCount++
      samples.push(node.id)
      timeDeltas.push(Math.max(0, atUs - lastUs))
      lastUs = Math.max(lastUs, atUs)
    }
  }
  return {
    nodes: tree.nodes,
    startTime: Math.round(startMs * 1000),
    endTime: Math.round(startMs * 1000) + spanUs * tracks.length,
    samples,
    timeDeltas,
  }
}

interface TreeNode extends ProfileNode {
  hitCount: number
  readonly children: number[]
}

/** The functions that were found, by who called them. */
class Tree {
  readonly nodes: TreeNode[] = []
  readonly root: TreeNode
  /** Nothing was running. */
  readonly idle: TreeNode
  readonly #children = new Map<number, Map<string, TreeNode>>()
  readonly #frames = new Map<string, CallFrame>()

  constructor() {
    this.root = this.#add({ functionName: '(root)', ...NO_PLACE })
    this.idle = this.child(this.root, { functionName: '(idle)', ...NO_PLACE })
  }

  /** The node that a stack ends in, below another. */
  find(from: TreeNode, stack: string): TreeNode {
    let node = from
    for (const line of stack.split('\n').reverse()) node = this.child(node, this.#frame(line))
    return node
  }

  child(parent: TreeNode, frame: CallFrame): TreeNode {
    const siblings = this.#children.get(parent.id)!
    const { functionName, url, lineNumber, columnNumber } = frame
    const key = `${functionName} ${url}:${lineNumber}:${columnNumber}`
    let node = siblings.get(key)
    if (node === undefined) {
      node = this.#add(frame)
      siblings.set(key, node)
      parent.children.push(node.id)
    }
    return node
  }

  #add(callFrame: CallFrame): TreeNode {
    const node = { id: this.nodes.length + 1, callFrame, hitCount: 0, children: [] }
    this.nodes.push(node)
    this.#children.set(node.id, new Map())
    return node
  }

  #frame(line: string): CallFrame {
    let frame = this.#frames.get(line)
    if (frame === undefined) this.#frames.set(line, (frame = parseFrame(line)))
    return frame
  }
}

function parseFrame(line: string): CallFrame {
  const { name = '', inner, place } = FRAME.exec(line)?.groups ?? { place: line.trim() }
  const found = PLACE.exec(inner ?? place ?? '')?.groups
  const functionName = name === '' ? '(anonymous)' : name
  if (found === undefined) return { ...NO_PLACE, functionName }
  return {
    functionName,
    scriptId: '0',
    url: asUrl(found['url']!),
    lineNumber: Number(found['line']) - 1,
    columnNumber: Number(found['column']) - 1,
  }
}

/** With source maps Node names a file by its path; developer tools want a URL. */
function asUrl(place: string): string {
  return place.startsWith('/') ? `file://${encodeURI(place)}` : place
}
