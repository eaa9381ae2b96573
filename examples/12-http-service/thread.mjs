// What every thread imports. Some serve, each on a port of its own, as behind a load balancer. The others
// run queries for them, so that a slow one does not hold up the requests of a serving thread.
//
//   GET /coherent/7          account 7, read in that way (see ways.mjs)
//   PUT /coherent/7?name=x   renames it, and answers when that way has told the other threads

import { createServer } from 'node:http'
import { sharedFunction, thisMachine } from 'interprocessor'
import { accountReader, accountRenamer, openDatabase } from './database.mjs'
import { ways } from './ways.mjs'

const database = await openDatabase(process.env.DATABASE)
const server = createServer()
let queries = 0

const readAccount = accountReader(database)
sharedFunction('readAccount', (id) => {
  queries++
  return readAccount(id)
})
sharedFunction('queries', () => queries)

/** Begins to serve, and tells CPU 0 where. `readers` are the CPUs that run queries. */
sharedFunction('serve', (readers) => {
  const machine = thisMachine()
  const load = (id) => machine.smpCallFunctionAny(readers, 'readAccount', id)
  const opened = Object.entries(ways).map(([name, open]) => [name, open(load)])
  const handle = handler(new Map(opened), accountRenamer(database))
  server.on('request', (request, response) => void answer(request, response, handle))
  server.listen(0, '127.0.0.1', () => {
    void machine.smpCallFunctionSingle(0, 'serving', server.address().port)
  })
})

sharedFunction('stop', () => {
  server.close()
  server.closeAllConnections()
  database.close()
})

async function answer(request, response, handle) {
  try {
    response.end(JSON.stringify(await handle(request)))
  } catch (error) {
    response.writeHead(500).end(String(error))
  }
}

function handler(opened, renameAccount) {
  return async ({ method, url }) => {
    const { pathname, searchParams } = new URL(url, 'http://127.0.0.1')
    const [, way, account] = pathname.split('/')
    const { read, changed } = opened.get(way)
    const id = Number(account)
    if (method === 'GET') return read(id)
    const version = renameAccount(id, searchParams.get('name'))
    // The change is committed: now the other threads must hear of it, before the client does.
    await changed(id)
    return { version }
  }
}
