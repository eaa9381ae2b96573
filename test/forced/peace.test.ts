/** What forced entry leaves alone: other workers of the process, a user's own debugger, idle machines. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Session } from 'node:inspector'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { settled, until, WORD } from '../support/machine-board.ts'
import { withMachine } from '../support/machine-harness.ts'
import { startTask } from '../support/machine-tasks.ts'
import { bindings, NMIS, stay, stopInDebugger, watchNmis } from '../support/forced-tasks.ts'

const TASKS = new URL('../support/forced-tasks.js', import.meta.url)
const FOREIGN = fileURLToPath(new URL('../support/forced-foreign.js', import.meta.url))

/** What a foreign worker finds in itself. */
async function found(worker: Worker): Promise<unknown> {
  const answer = once(worker, 'message')
  worker.postMessage('what is in you?')
  return (await settled(answer, 'the foreign worker'))[0]
}

/** A session as a user's debugger has it: attached to every worker, debugger on. */
class UserDebugger {
  readonly session = new Session()
  readonly #ids: string[] = []
  readonly #answers = new Map<string, string>()

  constructor() {
    this.session.connect()
    this.session.on('NodeWorker.attachedToWorker', ({ params }) => this.#ids.push(params.sessionId))
    this.session.on('NodeWorker.receivedMessageFromWorker', ({ params }) => {
      if (params.message.startsWith('{"method":"Debugger.paused"')) this.stopped++
      if (params.message.startsWith('{"method":"Debugger.resumed"')) this.stopped--
      if (params.message.includes('"id":77,')) this.#answers.set(params.sessionId, params.message)
    })
    this.session.post('NodeWorker.enable', { waitForDebuggerOnStart: false })
    for (const sessionId of this.#ids) this.#send(sessionId, 'Debugger.enable', {})
  }

  /** Lets go on who is stopped. */
  resume(): void {
    for (const id of this.#ids) this.#send(id, 'Debugger.resume', {})
  }

  #send(sessionId: string, method: string, params: object): void {
    const message = JSON.stringify({ id: 77, method, params })
    this.session.post('NodeWorker.sendMessageToWorker', { sessionId, message })
  }

  /** How many of the workers are stopped, because they have come to a `debugger` statement. */
  stopped = 0

  /** How many workers answer that six times seven is 42. */
  async answering(): Promise<number> {
    this.#answers.clear()
    for (const id of this.#ids) this.#send(id, 'Runtime.evaluate', { expression: '6 * 7' })
    const good = (): number =>
      [...this.#answers.values()].filter((text) => text.includes('42')).length
    await until(
      () => good() === this.#ids.length,
      () => `${good()} of ${this.#ids.length} answered`,
    )
    return good()
  }
}

test('nothing is opened before the first forced entry; workers of others are let go', () =>
  withMachine({ cpus: 2, entry: TASKS, haltPollMs: 0 }, async ({ machine, board }) => {
    const early = new Worker(FOREIGN)
    await once(early, 'online')
    await machine.cpuhpSetupState('nmis', { startup: watchNmis })
    assert.deepEqual(await machine.smpCallFunctionSingle(1, bindings), [])
    machine.sendNmi([1])
    await board.reached(NMIS + 1)
    assert.deepEqual(await machine.smpCallFunctionSingle(1, bindings), ['interprocessor.relay'])
    const late = new Worker(FOREIGN)
    for (const worker of [early, late]) {
      assert.deepEqual(await found(worker), [])
      await worker.terminate()
    }
  }))

test("a user's debugger goes on, before, meanwhile and after", async () => {
  let user: UserDebugger | undefined
  const foreign = new Worker(FOREIGN)
  await once(foreign, 'online')
  await withMachine({ cpus: 2, entry: TASKS, haltPollMs: 0 }, async ({ machine, board }) => {
    await machine.cpuhpSetupState('nmis', { startup: watchNmis })
    user = new UserDebugger()
    assert.equal(await user.answering(), 2)
    for (let round = 1; round <= 3; round++) {
      const { result } = await startTask(1, stay, 'in a loop')
      await board.reached(WORD.entered)
      machine.sendNmi([1])
      await settled(result, 'the loop')
      assert.equal(await user.answering(), 2, `round ${round}`)
      board.set(WORD.release, 0)
      board.set(WORD.entered, 0)
    }
  })
  user!.session.post('NodeWorker.disable')
  await foreign.terminate()
  user!.session.disconnect()
})

test("an NMI is taken by a thread that a user's debugger has stopped, and it stays stopped", () =>
  withMachine({ cpus: 2, entry: TASKS, haltPollMs: 0 }, async ({ machine, board }) => {
    await machine.cpuhpSetupState('nmis', { startup: watchNmis })
    const user = new UserDebugger()
    try {
      for (let round = 1; round <= 3; round++) {
        const { result } = await startTask(1, stopInDebugger)
        await until(
          () => user.stopped === 1,
          () => 'the thread does not stop',
        )
        machine.sendNmi([1])
        await board.reached(NMIS + 1, round)
        assert.match(String(await machine.backtrace()), /at .*stopInDebugger/)
        assert.deepEqual([user.stopped, board.get(WORD.done)], [1, round - 1])
        user.resume()
        await settled(result, 'the task')
      }
    } finally {
      user.resume()
      user.session.post('NodeWorker.disable')
      user.session.disconnect()
    }
  }))
