// The authority: one SQLite file, which every thread opens for itself. In its WAL mode readers and a writer
// do not wait for each other, and what was read after a commit is what was committed.

export const ACCOUNTS = 100
const ORDERS_PER_ACCOUNT = 500

/** The module with SQLite: a package that is what Node has from version 22.13 on, or else Node's own. */
export async function findSqlite() {
  const installed = await import('@photostructure/sqlite').catch(() => undefined)
  return installed ?? (await import('node:sqlite').catch(() => undefined))
}

/** Opens the database for the calling thread. */
export async function openDatabase(file) {
  const { DatabaseSync } = await findSqlite()
  const database = new DatabaseSync(file)
  database.exec('PRAGMA busy_timeout = 5000; PRAGMA synchronous = NORMAL')
  return database
}

/** Makes the tables and fills them. */
export async function createTables(file) {
  const database = await openDatabase(file)
  const orders = ACCOUNTS * ORDERS_PER_ACCOUNT
  database.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT, version INTEGER);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, account INTEGER, cents INTEGER);
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT ${ACCOUNTS})
      INSERT INTO accounts SELECT i, 'account ' || i, 1 FROM n;
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT ${orders})
      INSERT INTO orders SELECT i, i % ${ACCOUNTS}, i * 7919 % 10007 FROM n;
    CREATE INDEX orders_of_account ON orders (account);
  `)
  database.close()
}

/** An account with the sum of its orders and the ten largest. One statement: one snapshot. */
export function accountReader(database) {
  const statement = database.prepare(`
    SELECT id, name, version,
      (SELECT sum(cents) FROM orders WHERE account = accounts.id) AS total,
      (SELECT json_group_array(cents) FROM
        (SELECT cents FROM orders WHERE account = accounts.id ORDER BY cents DESC LIMIT 10)) AS largest
    FROM accounts WHERE id = ?`)
  return (id) => {
    const { largest, ...account } = statement.get(id)
    return { ...account, largest: JSON.parse(largest) }
  }
}

/** Renames an account and gives its new version; when it returns, that is committed. */
export function accountRenamer(database) {
  const statement = database.prepare(
    'UPDATE accounts SET name = ?, version = version + 1 WHERE id = ? RETURNING version',
  )
  return (id, name) => statement.get(name, id).version
}
