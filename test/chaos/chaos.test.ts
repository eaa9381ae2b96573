/** The chaos program works, and it can fail: whatever it looks for, it finds if it is there. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { requestFlags } from '../../src/kernel/request.ts'
import { SLOT } from '../../src/hardware/layout.ts'
import { Agent } from '../support/chaos-agent.ts'
import { judgeError, judgeValue, type MadeCall, type Workplace } from '../support/chaos-calls.ts'
import { Crew } from '../support/chaos-crew.ts'
import { overdue } from '../support/chaos-judge.ts'
import { AT, CPUS_MAX, DEEDS, Ledger, OPERATIONS } from '../support/chaos-ledger.ts'
import { noteRun, replyOf } from '../support/chaos-questions.ts'
import { checkTickets, checkVectors, quiesce } from '../support/chaos-quiesce.ts'
import { judgeMemory, runChaos } from '../support/chaos-run.ts'
import { Dice } from '../support/random.ts'

const seed = Number(process.env['CHAOS_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

test(`a few seconds of chaos (CHAOS_SEED=${seed})`, async () => {
  const { accusations, scene, book } = await runChaos({ seconds: 4, seed })
  assert.deepEqual(accusations, [], scene)
  assert.ok(book.get(AT.operations + OPERATIONS.indexOf('call')) > 0, 'CPUs called')
  assert.ok(book.get(AT.deeds + DEEDS.indexOf('quiesces')) > 0, 'the books were looked at')
})

test('what takes too long is accused by name, and ends the run', async () => {
  const { accusations, scene, seconds } = await runChaos({ seconds: 60, seed, limitMs: 1 })
  assert.match(
    accusations[0]!,
    /^CPU \d, lane \d: ".+" about CPUs \{.*\} has not ended after \d+ ms$/,
  )
  assert.match(scene, /CPU 0: life 1.*CPU 0: \w+, attention \d.*CAL:/s)
  assert.ok(seconds < 30, `it ended after ${seconds} s`)
})

describe('a machine whose books do not balance', () => {
  /** Boots, breaks something, looks at the books; gives what is said. */
  async function accusationsAfter(
    breakIt: (crew: Crew, book: Ledger) => void,
  ): Promise<readonly string[]> {
    const book = new Ledger()
    const crew = await Crew.make(book, { cpus: 2, adopted: false, machine: {} })
    try {
      breakIt(crew, book)
      await quiesce(new Agent(crew, book, new Dice(1)), book, new Map())
      return book.accusations()
    } finally {
      await crew.close()
    }
  }

  test('nothing is wrong with it before', async () => {
    assert.deepEqual(await accusationsAfter(() => undefined), [])
  })

  test('a slot that is missing', async () => {
    const said = await accusationsAfter(({ machine: { cpu } }) => {
      const { memory } = cpu
      const flags = memory.slot(3) + SLOT.flags
      memory.words[flags] = requestFlags(memory, 3) | 1
    })
    assert.match(said.join('\n'), /slot 3 of CPU 0, to CPU 0: queued, expected free/)
  })

  test('a preemption count that does not come back', async () => {
    const said = await accusationsAfter(({ machine }) => machine.cpu.preemptDisable())
    assert.match(said.join('\n'), /CPU 0 at rest: preempt_count is 1/)
  })

  test('an interrupt that is lost, and one that comes twice', async () => {
    const said = await accusationsAfter(({ machine }, book) => {
      book.set(AT.attempts + 1, 3)
      book.raise(AT.completed + 1, 3)
      book.set(AT.runs + CPUS_MAX, 1)
      checkVectors(machine, book)
    })
    assert.match(said[0]!, /on CPU 1: send 3 is lost, the last delivery saw 0/)
    assert.match(said[1]!, /on CPU 0: 1 runs of 0 sends/)
  })
})

describe('a call that goes wrong', () => {
  const question = { ticket: 7, epoch: 1, n: 42 }
  const call: MadeCall = {
    form: 'Single',
    question,
    asked: 0b10,
    wait: true,
    mayTimeOut: false,
    unknown: false,
    signal: undefined,
    before: [1, 1],
  }
  function accused(judge: (place: Workplace, book: Ledger) => void): string {
    const book = new Ledger()
    book.clearEpoch()
    book.words[AT.asked + 7] = 0b10
    const place = { machine: { cpu: { id: 0 } }, book, dice: new Dice(1), lane: 0 }
    judge({ ...place, concerns: () => undefined } as unknown as Workplace, book)
    return book.accusations().join('\n')
  }
  const right = replyOf(42, 1)

  test('nothing is wrong with the right one', () => {
    const said = accused((place, book) => {
      noteRun(book, question, 1)
      judgeValue(place, call, right)
    })
    assert.equal(said, '')
  })

  test('a wrong answer, and one from a CPU that has not run it', () => {
    assert.match(
      accused((place, book) => {
        noteRun(book, question, 1)
        judgeValue(place, call, right + 1)
      }),
      /was answered wrongly by CPU 1/,
    )
    assert.match(
      accused((place) => judgeValue(place, call, right)),
      /has not run on CPU 1/,
    )
  })

  test('a failure that nothing explains', () => {
    const late = Object.assign(new Error('late'), { code: 'IPI_TIMEOUT', started: false })
    assert.match(
      accused((place) => judgeError(place, call, late)),
      /failed on CPU 1: Error IPI_TIMEOUT late/,
    )
    assert.equal(
      accused((place) => judgeError(place, { ...call, mayTimeOut: true }, late)),
      '',
    )
  })

  test('a run that is one too many, too late, or elsewhere', () => {
    const twice = accused((_, book) => {
      noteRun(book, question, 1)
      noteRun(book, question, 1)
    })
    assert.match(twice, /ticket 7 runs twice on CPU 1/)
    assert.match(
      accused((_, book) => noteRun(book, { ...question, epoch: 0 }, 1)),
      /of epoch 0 runs after its end/,
    )
    assert.match(
      accused((_, book) => noteRun(book, question, 0)),
      /was not asked to run on CPU 0/,
    )
    const givenUp = accused((_, book) => {
      noteRun(book, question, 1)
      book.words[AT.mustNot + 7] = 0b10
      book.set(AT.tickets, 8)
      checkTickets(book)
    })
    assert.match(givenUp, /ticket 7 was given up, and ran on CPUs 1/)
  })

  test('one that does not end', () => {
    const book = new Ledger()
    book.begin(3, 1, 'blocking call', 0b101)
    assert.deepEqual(overdue(book, 60_000), [])
    assert.match(overdue(book, 0)[0]!, /CPU 3, lane 1: "blocking call" about CPUs \{0,2\}/)
    book.end(3, 1)
    assert.deepEqual(overdue(book, 0), [])
  })
})

test('memory that grows is accused in a long run, and only clear growth', () => {
  const flat = Array.from({ length: 80 }, (_, i) => 150 + (i % 7))
  assert.equal(judgeMemory(flat), undefined)
  assert.equal(judgeMemory(flat.slice(0, 20).map((mb, i) => mb + 50 * i)), undefined)
  assert.match(judgeMemory(flat.map((mb, i) => mb + 10 * i))!, /memory grows/)
})
