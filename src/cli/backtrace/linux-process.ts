/** Another process, as Linux shows it in /proc: all of this is read without touching the process. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import { UsageError } from '../failure.ts'

/** The bit of SIGUSR1, signal 10, in the masks of /proc/<pid>/status. */
const SIGUSR1_BIT = 0x200n
/** The state of a listening socket in /proc/<pid>/net/tcp. */
const LISTENING = '0A'
/** Where the debugger's port of a Node process is if nothing else was said. */
const DEFAULT_PORT = 9229

const PORT_OPTION = /--(?:inspect(?:-port|-brk|-wait)?|debug-port)[= ](?:[^\s=]*:)?(\d+)(?=\s|$)/g
const DEBUGGER_OPTION = /(?:^|\s)--inspect(?:-brk|-wait)?(?:=|\s|$)/

/** A port on which a process listens. */
interface Listener {
  readonly inode: string
  readonly port: number
}

/** A process of this user that Node runs, and that a signal will not hurt. */
export class LinuxProcess {
  readonly pid: number
  /** Its command line, as one types it. */
  readonly command: string

  /** Throws {@link UsageError} if there is no such process, or if it cannot be asked. */
  constructor(pid: number) {
    this.pid = pid
    if (process.platform !== 'linux') {
      refuse(
        'backtrace works on Linux only: it needs /proc to tell whose port is whose. Call ' +
          'machine.backtrace() in the process itself',
      )
    }
    const status = this.#readStatus()
    this.command = this.#read('cmdline').replaceAll('\0', ' ').trim()
    this.#checkOwner()
    this.#checkProgram(status)
    this.#checkPlace()
  }

  /** The port that its debugger will have: 0 for any that is free. */
  get debuggerPort(): number {
    const ports = [...this.#options().matchAll(PORT_OPTION)]
    return Number(ports.at(-1)?.[1] ?? DEFAULT_PORT)
  }

  /** Ports at which its debugger may be open already. */
  openDebuggerPorts(): number[] {
    const ports = this.listeningPorts()
    // With a port of any number nothing tells it from the ports of the program.
    if (DEBUGGER_OPTION.test(this.#options()) && this.debuggerPort === 0) return ports
    return ports.filter((port) => port === this.debuggerPort)
  }

  /** The TCP ports on which it listens. */
  listeningPorts(): number[] {
    const inodes = this.#sockets()
    return this.#listeners()
      .filter(({ inode }) => inodes.has(inode))
      .map(({ port }) => port)
  }

  /** Throws {@link UsageError} if the debugger's port belongs to somebody else. */
  checkPortIsFree(): void {
    const { debuggerPort } = this
    if (debuggerPort === 0 || !this.#listeners().some(({ port }) => port === debuggerPort)) return
    refuse(
      `the debugger of process ${this.pid} would open port ${debuggerPort}, and somebody else ` +
        'listens there. End that, or start the process with NODE_OPTIONS=--inspect-port=0, which ' +
        'takes any free port',
    )
  }

  /** Whether there still is such a process. */
  get isAlive(): boolean {
    try {
      return !/^State:\s+[XZ]/m.test(this.#read('status'))
    } catch {
      return false
    }
  }

  #read(file: string): string {
    return readFileSync(`/proc/${this.pid}/${file}`, 'utf8')
  }

  #readStatus(): string {
    let status: string
    try {
      status = this.#read('status')
    } catch {
      return refuse(`there is no process ${this.pid}; ps -C node shows the ones of Node`)
    }
    const group = /^Tgid:\s+(\d+)/m.exec(status)?.[1]
    if (group !== undefined && Number(group) !== this.pid) {
      refuse(`${this.pid} is a thread of process ${group}; give the number of the process`)
    }
    return status
  }

  #checkOwner(): void {
    try {
      process.kill(this.pid, 0)
      readdirSync(`/proc/${this.pid}/fd`)
    } catch {
      refuse(`process ${this.pid} belongs to another user; run this command as that user`)
    }
  }

  #checkProgram(status: string): void {
    const program = basename(readlinkSync(`/proc/${this.pid}/exe`)).replace(/ \(deleted\)$/, '')
    if (!/^node/i.test(program)) {
      refuse(
        `process ${this.pid} runs ${program} and not node. Only a Node process is asked: what the ` +
          'signal does to others, Bun and Deno among them, is to end them',
      )
    }
    const caught = BigInt(`0x${/^SigCgt:\s+(\w+)/m.exec(status)?.[1] ?? '0'}`)
    if ((caught & SIGUSR1_BIT) === 0n) {
      refuse(
        `process ${this.pid} does not take the signal that opens its debugger: it was started with ` +
          '--disable-sigusr1, or just now',
      )
    }
    if (/^State:\s+[Tt]/m.test(status)) {
      refuse(`process ${this.pid} is stopped; let it go on first: kill -CONT ${this.pid}`)
    }
  }

  /** Its ports must be the ones that this process can reach. */
  #checkPlace(): void {
    if (readlinkSync(`/proc/${this.pid}/ns/net`) === readlinkSync('/proc/self/ns/net')) return
    refuse(
      `process ${this.pid} is in a container with a network of its own; run this command in there`,
    )
  }

  /** What it was started with. */
  #options(): string {
    const inherited = /(?:^|\0)NODE_OPTIONS=([^\0]*)/.exec(this.#read('environ'))?.[1] ?? ''
    return `${inherited} ${this.command}`
  }

  #sockets(): Set<string> {
    const folder = `/proc/${this.pid}/fd`
    const inodes = readdirSync(folder).map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`${folder}/${fd}`))?.[1]
      } catch {
        // Closed meanwhile.
        return undefined
      }
    })
    return new Set(inodes.filter((inode) => inode !== undefined))
  }

  #listeners(): Listener[] {
    const rows = ['net/tcp', 'net/tcp6'].flatMap((file) => {
      try {
        return this.#read(file).split('\n').slice(1)
      } catch {
        // A system without IPv6.
        return []
      }
    })
    return rows.flatMap((row) => {
      const [, local = '', , state, , , , , , inode = ''] = row.trim().split(/\s+/)
      if (state !== LISTENING) return []
      return [{ inode, port: parseInt(local.split(':')[1] ?? '', 16) }]
    })
  }
}

function refuse(message: string): never {
  throw new UsageError(message)
}
