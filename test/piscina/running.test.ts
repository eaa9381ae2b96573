// What a task is given and gives back: the same bodies for piscina and for ours.

import assert from 'node:assert/strict'
import { AsyncLocalStorage, createHook } from 'node:async_hooks'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { both, HANDLERS, LIBRARIES, only } from '../support/piscina-pools.ts'

const folder = mkdtempSync(join(tmpdir(), 'piscina-'))
after(() => rmSync(folder, { recursive: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const single = file('single.cjs', 'module.exports = (value) => value * 2')
const several = file(
  'several.cjs',
  "const a = () => 'a'; a.a = a; a.b = () => 'b'; module.exports = a",
)
const promised = file(
  'promised.cjs',
  'module.exports = new Promise((done) => setImmediate(done, (value) => value * 3))',
)
const promisedModule = file('promised.mjs', 'export default Promise.resolve((value) => value * 4)')
const broken = file('broken.mjs', "throw new Error('broken as intended')")

both('runs the default export, named exports and those that are asynchronous', async ({ pool }) => {
  const made = pool()
  assert.equal(await made.run(1), 2)
  assert.equal(await made.run(1, { name: 'later' }), 2)
  assert.equal(await made.run('x', { name: 'echo' }), 'x')
  assert.equal(await pool({ name: 'later' }).run(1), 2)
  assert.equal(made.completed, 3)
})

both('runs what CommonJS files and promises export', async ({ pool }) => {
  assert.equal(await pool({ filename: single }).run(2), 4)
  assert.equal(await pool({ filename: promised }).run(2), 6)
  assert.equal(await pool({ filename: promisedModule }).run(2), 8)
  const named = pool({ filename: several, name: 'b' })
  assert.equal(await named.run(0), 'b')
  assert.equal(await named.run(0, { name: 'a' }), 'a')
  assert.equal(await pool({ filename: several }).run(0), 'a')
})

both('takes the file by path or URL, for the pool or for one task', async ({ pool }) => {
  const url = pathToFileURL(HANDLERS).href
  assert.equal(await pool({ filename: url }).run(1), 2)
  const without = pool({ filename: null })
  assert.equal(await without.run(1, { filename: HANDLERS }), 2)
  assert.equal(await without.run(1, { filename: url }), 2)
  await assert.rejects(without.run(1), /^Error: filename must be provided to run\(\) or in options/)
})

both('says which file exports no such function', async ({ pool }) => {
  await assert.rejects(pool().run(1, { name: 'nobody' }), {
    message: `No handler function exported from ${HANDLERS}`,
  })
  await assert.rejects(pool({ name: 'nobody' }).run(1), {
    message: `No handler function exported from ${HANDLERS}`,
  })
})

both('rejects with what the handler throws', async ({ pool }) => {
  const made = pool({ name: 'fail' })
  await assert.rejects(made.run('class'), (error) => {
    assert.ok(error instanceof RangeError)
    assert.equal(error.message, 'out of range')
    return true
  })
  await assert.rejects(made.run('later'), { message: 'later' })
  await assert.rejects(made.run('cause'), (error: Error) => {
    assert.ok(error.cause instanceof TypeError)
    assert.equal(error.cause.message, 'inner')
    return true
  })
  assert.equal(await made.run('text').catch((thrown: unknown) => thrown), 'only words')
})

both('carries values as structured clone does', async ({ pool }) => {
  const made = pool({ name: 'echo' })
  const values = [
    undefined,
    null,
    -0,
    NaN,
    2n ** 70n,
    'ä'.repeat(3000),
    new Date(0),
    /x/g,
    new Map([[1, new Set(['a'])]]),
    new Uint8Array(70_000).fill(7),
    { a: [1, { b: [undefined, null] }] },
  ]
  for (const value of values) assert.deepEqual(await made.run(value), value)
})

both('refuses what cannot be cloned, and goes on', async ({ pool }) => {
  const made = pool({ name: 'echo' })
  await assert.rejects(
    made.run(() => undefined),
    { name: 'DataCloneError' },
  )
  assert.equal(await made.run(1), 1)
})

both('moves what the transfer list names', async ({ pool }) => {
  const buffer = new ArrayBuffer(40)
  const got = await pool({ name: 'echo' }).run({ buffer }, { transferList: [buffer] })
  assert.equal(got.buffer.byteLength, 40)
  assert.equal(buffer.byteLength, 0)
})

both('moves what move() has marked, there and back', async ({ pool, library, name }) => {
  const made = pool({ name: 'echo', maxThreads: 1 })
  const bytes = new Uint8Array(16)
  assert.equal((await made.run(library.move(bytes))).byteLength, 16)
  assert.equal(bytes.byteLength, 0)
  assert.equal((await made.run(name, { name: 'give' })).byteLength, 16)
  assert.equal(await made.run(0, { name: 'kept' }), 0)
  const parcel = await made.run(name, { name: 'giveObject' })
  assert.deepEqual(parcel, { name: 'parcel', buffer: new ArrayBuffer(16) })
  assert.equal(await made.run(0, { name: 'kept' }), 0)
})

both('move() gives primitives back and wraps everything else', ({ library }) => {
  const { Piscina, transferableSymbol, valueSymbol } = library
  for (const value of [null, 1, false, 'text']) assert.equal(Piscina.move(value), value)
  const bytes = new Uint8Array(5)
  const moved = Piscina.move(bytes) as unknown as Record<symbol, unknown>
  assert.equal(moved[transferableSymbol], bytes.buffer)
  assert.equal(moved[valueSymbol], bytes)
})

both('gives the workers env, argv, execArgv and workerData', async ({ pool, name }) => {
  const made = pool({
    env: { A: 'foo' },
    argv: ['a', 'b'],
    execArgv: ['--no-warnings'],
    workerData: { some: 'data' },
  })
  assert.deepEqual(await made.run(0, { name: 'environment' }), {
    env: { A: 'foo' },
    argv: ['a', 'b'],
    execArgv: ['--no-warnings'],
  })
  const data = { some: 'data' }
  assert.deepEqual(await made.run(name, { name: 'role' }), [true, data, true, data])
})

both('refuses workerData that cannot be cloned', ({ pool }) => {
  assert.throws(() => pool({ workerData: { hello: () => undefined } }), /could not be cloned/)
})

both('knows that the thread of a program is none of its workers', ({ library }) => {
  assert.equal(library.isWorkerThread, false)
  assert.equal(library.workerData, undefined)
  assert.equal(library.Piscina.isWorkerThread, false)
  assert.equal(library.Piscina.workerData, undefined)
  assert.equal(library.Piscina.Piscina, library.Piscina)
  assert.equal(library.default, library.Piscina)
})

both('is the class itself when it is required', ({ library, name }) => {
  const required = createRequire(import.meta.url)(name) as unknown
  assert.equal(required, library.Piscina)
})

both('keeps the async context of whoever waits', async ({ pool }) => {
  const storage = new AsyncLocalStorage<string>()
  const made = pool({ name: 'later' })
  const seen = ['a', 'b'].map((who) =>
    storage.run(who, async () => {
      await made.run(1)
      return storage.getStore()
    }),
  )
  assert.deepEqual(await Promise.all(seen), ['a', 'b'])
  assert.equal(await made.run(7, { name: 'inContext' }), 7)
})

both('shows each task to async hooks as one resource', async ({ pool }) => {
  let id: number | undefined
  const seen: string[] = []
  const hook = createHook({
    init: (asyncId, type) => {
      if (type !== 'Piscina.Task') return
      id = asyncId
      seen.push('init')
    },
    before: (asyncId) => void (asyncId === id && seen.push('before')),
    after: (asyncId) => void (asyncId === id && seen.push('after')),
  }).enable()
  await pool().run(1)
  hook.disable()
  assert.deepEqual(seen, ['init', 'before', 'after'])
})

both('checks what run is given', async ({ pool }) => {
  const made = pool()
  const run = (options: unknown): Promise<unknown> => made.run(1, options as object)
  await assert.rejects(run(1), { name: 'TypeError', message: 'options must be an object' })
  await assert.rejects(run(null), { name: 'TypeError', message: 'options must be an object' })
  for (const [options, message] of [
    [{ transferList: 42 }, 'transferList argument must be an Array'],
    [{ filename: 42 }, 'filename argument must be a string'],
    [{ name: 42 }, 'name argument must be a string'],
    [{ signal: 42 }, 'signal argument must be an object'],
  ] as const) {
    await assert.rejects(run(options), { name: 'TypeError', message })
  }
})

both('takes no option from a polluted prototype', async ({ pool }) => {
  const polluted = Object.prototype as unknown as Record<string, unknown>
  Object.assign(polluted, { execArgv: ['--no-such-flag'], loadBalancer: () => null })
  try {
    const made = pool()
    assert.equal(made.options.loadBalancer, undefined)
    assert.equal(await made.run(1), 2)
  } finally {
    delete polluted['execArgv']
    delete polluted['loadBalancer']
  }
})

test('interprocessor/piscina exports what piscina exports, on the module and on the class', () => {
  const [theirs, ours] = Object.values(LIBRARIES)
  const names = (of: object): string[] =>
    Object.getOwnPropertyNames(of).filter((key) => key !== 'module.exports')
  const missing = names(theirs!).filter((key) => !names(ours!).includes(key))
  assert.deepEqual(missing, [])
  const statics = names(theirs!.Piscina).filter((key) => !(key in ours!.Piscina))
  assert.deepEqual(statics, [])
  const members = names(theirs!.Piscina.prototype).filter(
    (key) => !(key in ours!.Piscina.prototype),
  )
  assert.deepEqual(members, [])
  assert.equal(ours!.version, theirs!.version)
  for (const symbol of ['transferableSymbol', 'valueSymbol', 'queueOptionsSymbol'] as const) {
    assert.equal(ours![symbol], theirs![symbol])
  }
})

only('tells why a file cannot be loaded, and leaves nobody waiting', async ({ pool }) => {
  await assert.rejects(pool({ filename: broken }).run(1), { message: 'broken as intended' })
  await assert.rejects(pool({ filename: join(folder, 'no-such.js') }).run(1), (error: Error) => {
    assert.equal((error as NodeJS.ErrnoException).code, 'ERR_MODULE_NOT_FOUND')
    return true
  })
})

only(
  'an ES module is not required: a thread that ends meanwhile would end the process',
  async ({ pool }) => {
    const module = file(
      'module.mjs',
      `import { createRequire } from 'node:module'
     const { cache } = createRequire(import.meta.url)
     export default () => Object.keys(cache).includes(import.meta.filename)`,
    )
    assert.equal(await pool({ filename: module }).run(0), false)
  },
)

only('a file that is none to import is left to those who have hooked require', async ({ pool }) => {
  const compiled = file('handler.compiled', '(value) => value * 5')
  const hook = file(
    'hook.cjs',
    `require.extensions['.compiled'] = (module, name) => {
       module.exports = (0, eval)(require('node:fs').readFileSync(name, 'utf8'))
     }`,
  )
  const made = pool({ filename: compiled, execArgv: ['--require', hook] })
  assert.equal(await made.run(2), 10)
})

only('a result that cannot be cloned fails its task and not its thread', async ({ pool }) => {
  const made = pool({ maxThreads: 1 })
  const before = made.threads[0]!.threadId
  await assert.rejects(
    made.run(0, { name: 'notCloneable' }),
    /cannot be cloned|could not be cloned/,
  )
  assert.equal(await made.run(1), 2)
  assert.equal(made.threads[0]!.threadId, before)
})

only('the event loops of the threads go on between tasks', async ({ pool }) => {
  const made = pool({ maxThreads: 1 })
  await made.run(0, { name: 'turn' })
  for (let tries = 0; tries < 1000; tries++) {
    if (await made.run(0, { name: 'hasTurned' })) return
    await new Promise(setImmediate)
  }
  assert.fail('what a task had started did not go on')
})
