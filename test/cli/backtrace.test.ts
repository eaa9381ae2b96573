// `interprocessor backtrace` of real processes: what it says of each, what it leaves behind, whom it refuses.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { LinuxProcess } from '../../src/cli/backtrace/linux-process.ts'
import { library, runCli, startCli, UserFolder, type Run } from './run-cli.ts'

/** A machine: CPU 0 loops until there is a file, 1 loops with interrupts off, 2 idles, 3 has ended. */
const MACHINE = `
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { boot } from '${library}'
import { busyOff, dies, six } from './tasks.mjs'
const workers = []
process.on('worker', (worker) => workers.push(worker))
const machine = await boot({ cpus: 4, entry: new URL('./tasks.mjs', import.meta.url) })
const words = new Int32Array(new SharedArrayBuffer(4))
const loop = machine.smpCallFunctionSingle(1, busyOff, words)
const dead = machine.smpCallFunctionSingle(3, dies).catch((error) => error.code)
await once(workers[2], 'exit')
// By force, from inside: both ways are open at the same time.
const look = async () => String(await machine.backtrace([1]))
while (!(await look()).includes('loopOff'));
machine.sendIpiMask([1], machine.allocVector())
async function goOn() {
  const still = await look()
  Atomics.store(words, 0, 1)
  const results = [still.includes('loopOff') || still, await loop, await dead, await machine.smpCallFunctionSingle(2, six)]
  await machine.close()
  console.log(results.join(' '))
}
setImmediate(function busyMain() {
  console.log('ready')
  while (!existsSync('go')) for (let i = 0; i < 1e5; i++);
  void goOn()
})
`

const TASKS = `
import { sharedFunction } from '${library}'
export const busyOff = sharedFunction('busyOff', (words) => {
  ;(function loopOff() { while (Atomics.load(words, 0) === 0); })()
  return 'over'
})
export const dies = sharedFunction('dies', () => process.exit(0))
export const six = sharedFunction('six', () => 6)
`

/** No machine: the main thread loops, a worker is blocked, and so is a worker of that one. */
const BUSY = `
const { Worker } = require('node:worker_threads')
const INNER = \`function innerBlock() { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) }
  require('node:worker_threads').parentPort.postMessage(0)
  innerBlock()\`
const OUTER = \`const { parentPort, Worker, workerData } = require('node:worker_threads')
  new Worker(workerData, { eval: true }).on('message', () => {
    parentPort.postMessage(0)
    ;(function outerBlock() { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) })()
  })\`
new Worker(OUTER, { eval: true, workerData: INNER }).on('message', () => {
  console.log('ready')
  ;(function busyMain() { for (;;); })()
})
`

/** Idle, and ends when its input does. */
const IDLE = `
Error.prepareStackTrace = () => 'mine'
Error.stackTraceLimit = 3
process.stdin.on('end', () => {
  console.log(new Error().stack, Error.stackTraceLimit)
  clearInterval(timer)
}).resume()
const timer = setInterval(() => undefined, 1e6)
console.log('ready')
`

/** A worker in a native call for a while. */
const MUTE = `
const { Worker } = require('node:worker_threads')
new Worker(\`require('node:worker_threads').parentPort.postMessage(0)
  require('node:child_process').execFileSync('sleep', ['8'])\`, { eval: true })
  .on('message', () => console.log('ready'))
`

const MODULES = {
  'machine.mjs': MACHINE,
  'tasks.mjs': TASKS,
  'busy.cjs': BUSY,
  'idle.cjs': IDLE,
  'mute.cjs': MUTE,
}

/** A process to look at. */
class Victim implements AsyncDisposable {
  readonly folder = new UserFolder(MODULES)
  readonly child: ChildProcessWithoutNullStreams
  readonly #over = new AbortController()
  /** Its status and the signal that ended it. */
  readonly exited: Promise<readonly unknown[]>
  stdout = ''
  stderr = ''

  private constructor(command: string, args: readonly string[]) {
    const env = { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined }
    // Its input is open until this process closes it, or ends.
    this.child = spawn(command, args, { cwd: this.folder.path, env, stdio: 'pipe' })
    this.exited = once(this.child, 'exit')
    this.child.once('exit', () => this.#over.abort(`it has ended: ${this.stderr}`))
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => (this.stdout += text))
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text))
  }

  /** Starts a module, its debugger on any free port if it has one; resolves when it says so. */
  static async start(module: string, ...options: string[]): Promise<Victim> {
    const port = options.some((option) => option.includes('inspect')) ? [] : ['--inspect-port=0']
    const victim = new Victim(process.execPath, [...port, ...options, module])
    await victim.says('stdout', /ready/)
    return victim
  }

  /** Starts something else. */
  static other(command: string, ...args: string[]): Victim {
    return new Victim(command, args)
  }

  get pid(): number {
    return this.child.pid!
  }

  async says(where: 'stdout' | 'stderr', text: RegExp): Promise<void> {
    while (!text.test(this[where])) {
      const { signal } = this.#over
      await once(this.child[where], 'data', { signal })
    }
  }

  /** Asserts that every port that its debugger ever had is closed, and gives how many there were. */
  async portsClosed(): Promise<number> {
    const ports = [...this.stderr.matchAll(/listening on ws:\/\/127\.0\.0\.1:(\d+)/g)]
    for (const [, port] of ports) assert.equal(await isOpen(Number(port)), false, `port ${port}`)
    return ports.length
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGKILL')
      await this.exited
    }
    this.folder[Symbol.dispose]()
  }
}

async function isOpen(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

async function backtrace(pid: number | string, ...options: string[]): Promise<Run> {
  const run = await runCli(['backtrace', String(pid), ...options])
  assert.ok(run.endedByItself, 'the command did not end by itself')
  return run
}

const linux = { skip: process.platform === 'linux' ? false : 'needs /proc' }

describe('a backtrace of another process', linux, () => {
  test('that runs a machine says of each CPU what it does, and the machine goes on', async () => {
    await using victim = await Victim.start('machine.mjs')
    const { status, stdout, stderr } = await backtrace(victim.pid)
    assert.match(stderr, /machine\.mjs\) gets the signal SIGUSR1.*Then the port is closed/)
    assert.match(stdout, /^main thread, CPU 0: running(?:, state \w+)?\n\s+at [^\n]*busyMain/)
    assert.match(
      stdout,
      /^worker 1 .*CPU 1: running, interrupts off, in vector 251, running "busyOff", pending \d+$/m,
    )
    assert.match(
      stdout,
      /pending \d+\n(?:\s+at Atomics[^\n]*\n)?\s+at loopOff \(file:.*tasks\.mjs:4:/,
    )
    assert.match(stdout, /^worker 2 .*CPU 2: idle$/m)
    assert.match(stdout, /^CPU 3: dead.*$/m)
    assert.equal(stdout.match(/CPU \d/g)?.length, 4)
    assert.equal(status, 0)
    assert.equal(await victim.portsClosed(), 1)
    writeFileSync(join(victim.folder.path, 'go'), '')
    await victim.exited
    assert.match(victim.stdout, /^ready\ntrue over IPI_CPU_DIED 6\n$/)
  })

  test('without one says it of each thread, busy, blocked and nested', async () => {
    await using victim = await Victim.start('busy.cjs')
    const { status, stdout } = await backtrace(victim.pid)
    assert.match(stdout, /^main thread: running\n\s+at busyMain \(.*busy\.cjs:/)
    assert.match(stdout, /^worker 1\b.*: blocked\n\s+at Atomics\.wait .*\n\s+at outerBlock/m)
    assert.match(stdout, /^worker 2\b.*: blocked\n\s+at Atomics\.wait .*\n\s+at innerBlock/m)
    assert.equal(status, 0)
    assert.equal(await victim.portsClosed(), 1)
  })

  test('that is idle, five times; it changes nothing there', async () => {
    await using victim = await Victim.start('idle.cjs')
    for (let round = 1; round <= 5; round++) {
      const { status, stdout, stderr } = await backtrace(victim.pid)
      assert.match(stdout, /^main thread: idle, waiting for .*Timeout.*\n$/, stderr)
      assert.equal(status, 0)
      assert.equal(await victim.portsClosed(), round)
    }
    victim.child.stdin.end()
    assert.deepEqual(await victim.exited, [0, null])
    assert.equal(victim.stdout, 'ready\nmine 3\n')
    assert.doesNotMatch(victim.stderr, /Waiting for the debugger/)
  })

  test('whose debugger is open uses that, and leaves it open', async () => {
    for (const option of ['--inspect=127.0.0.1:0', `--inspect=${await freePort()}`]) {
      await using victim = await Victim.start('idle.cjs', option)
      const { status, stdout, stderr } = await backtrace(victim.pid)
      assert.match(stderr, /is open, on port \d+.*the port stays as it is/)
      assert.match(stdout, /^main thread: idle/)
      assert.equal(status, 0)
      const port = Number(/ws:\/\/127\.0\.0\.1:(\d+)/.exec(victim.stderr)?.[1])
      assert.equal(await isOpen(port), true)
    }
  })

  test('with a thread in a native call names it, and answers for the others', async () => {
    await using victim = await Victim.start('mute.cjs')
    const { status, stdout } = await backtrace(victim.pid, '--timeout-ms', '500')
    assert.match(stdout, /^main thread: idle/)
    assert.match(stdout, /^worker 1\b.*: no answer within 500 ms; it is in a native call/m)
    assert.equal(status, 1)
    assert.equal(await victim.portsClosed(), 1)
  })

  test('that is interrupted leaves no port open either', async () => {
    await using victim = await Victim.start('mute.cjs')
    const { child, ended } = startCli(['backtrace', String(victim.pid), '--timeout-ms', '50000'])
    await victim.says('stderr', /Debugger attached/)
    child.kill('SIGINT')
    const { status, stdout } = await ended
    assert.match(stdout, /^main thread/)
    assert.equal(status, 1)
    assert.equal(await victim.portsClosed(), 1)
  })
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

describe('a backtrace is refused', linux, () => {
  /** The command says why and touches nothing. */
  async function refuses(pid: number | string, why: RegExp): Promise<void> {
    const { status, stdout, stderr } = await backtrace(pid)
    assert.match(stderr, why)
    assert.doesNotMatch(stderr, /SIGUSR1: it opens/)
    assert.equal(stdout, '')
    assert.equal(status, 2)
  }

  test('if somebody else has the port of the debugger', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    await using victim = await Victim.start('idle.cjs', `--inspect-port=${port}`)
    await refuses(victim.pid, /would open port \d+, and somebody else listens there.*port=0/)
    server.close()
    // Had it got the signal, its debugger would say so now, or have said that it cannot open.
    const { status } = await backtrace(victim.pid)
    assert.equal(status, 0)
    assert.equal(victim.stderr.match(/Debugger listening|failed/g)?.length, 1)
  })

  test('of what is no process, or none of Node', async () => {
    await refuses('4194304', /there is no process 4194304/)
    await refuses('many', /It is an integer from 1/)
    await refuses('0', /It is an integer from 1/)
    await using sleeper = Victim.other('sleep', '60')
    await once(sleeper.child, 'spawn')
    await refuses(sleeper.pid, /runs sleep and not node\. Only a Node process is asked/)
    assert.equal(sleeper.child.exitCode ?? sleeper.child.signalCode, null)
  })

  test('of a thread, and of a process that is stopped', async () => {
    await using victim = await Victim.start('idle.cjs')
    const thread = readdirSync(`/proc/${victim.pid}/task`).find((id) => id !== String(victim.pid))
    await refuses(thread!, new RegExp(`is a thread of process ${victim.pid}`))
    victim.child.kill('SIGSTOP')
    await refuses(victim.pid, /is stopped; let it go on first: kill -CONT/)
  })

  const flag = '--disable-sigusr1'
  const hasFlag = process.allowedNodeEnvironmentFlags.has(flag)
  test('of a Node that does not take the signal', { skip: !hasFlag }, async () => {
    await using victim = await Victim.start('idle.cjs', flag)
    await refuses(victim.pid, /does not take the signal that opens its debugger/)
  })

  const isRoot = process.getuid?.() === 0
  test('of another user', { skip: isRoot && 'root may ask everybody' }, async () => {
    await refuses(1, /belongs to another user; run this command as that user/)
  })

  test('elsewhere than on Linux', () => {
    const platform = Object.getOwnPropertyDescriptor(process, 'platform')!
    Object.defineProperty(process, 'platform', { ...platform, value: 'darwin' })
    try {
      assert.throws(() => new LinuxProcess(process.pid), /works on Linux only.*machine\.backtrace/)
    } finally {
      Object.defineProperty(process, 'platform', platform)
    }
  })
})
