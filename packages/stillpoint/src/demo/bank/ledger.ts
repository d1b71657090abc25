/**
 * The ledger of one branch: accounts in a SQLite database of its own. Each change is one transaction, and booking the
 * same transfer twice books it once.
 */
import { DatabaseSync } from 'node:sqlite'
import { Failure } from '@stillpoint/core/kernel'

export interface Transfer {
  readonly id: string
  readonly from: string
  readonly to: string
  /** Cents. */
  readonly amount: number
}

export interface Ledger {
  /** Takes money from an account that has it. Answers false when none has that much. */
  withdraw(transfer: Transfer): boolean
  /** Puts arrived money on an account, once per transfer. Answers false when it had been booked already. */
  deposit(transfer: Transfer): boolean
  /** Sum of all accounts, cents. */
  total(): number
  close(): void
}

export const accountsPerBranch = 25
export const openingBalance = 100_000

const schema = `
  CREATE TABLE IF NOT EXISTS account (number INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0)) STRICT;
  CREATE TABLE IF NOT EXISTS sent (id TEXT PRIMARY KEY, recipient TEXT NOT NULL, amount INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY, sender TEXT NOT NULL, amount INTEGER NOT NULL) STRICT;
`

/** Opens the ledger at `path`; a new one gets its accounts. `pick` chooses an account number from 1 to its bound. */
export function openLedger(path: string, pick: (bound: number) => number): Ledger {
  const database = new DatabaseSync(path)
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000;')
  database.exec(schema)
  const insertAccount = database.prepare('INSERT OR IGNORE INTO account VALUES (?, ?)')
  transaction(database, () => {
    for (let number = 1; number <= accountsPerBranch; number += 1) insertAccount.run(number, openingBalance)
  })
  const debit = database.prepare('UPDATE account SET balance = balance - ? WHERE number = ? AND balance >= ?')
  const credit = database.prepare('UPDATE account SET balance = balance + ? WHERE number = ?')
  const noteSent = database.prepare('INSERT INTO sent VALUES (?, ?, ?)')
  const noteReceived = database.prepare('INSERT OR IGNORE INTO received VALUES (?, ?, ?)')
  return {
    withdraw: ({ id, to, amount }) =>
      transaction(database, () => {
        if (debit.run(amount, pick(accountsPerBranch), amount).changes === 0) return false
        noteSent.run(id, to, amount)
        return true
      }),
    deposit: ({ id, from, amount }) =>
      transaction(database, () => {
        if (noteReceived.run(id, from, amount).changes === 0) return false
        credit.run(amount, pick(accountsPerBranch))
        return true
      }),
    total: () => totalOf(database),
    close: () => database.close(),
  }
}

/** Sum of the accounts of a ledger that nobody has open, cents. */
export function readTotal(path: string): number {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return totalOf(database)
  } finally {
    database.close()
  }
}

function totalOf(database: DatabaseSync): number {
  const row = database.prepare('SELECT sum(balance) AS total FROM account').get()
  const total = row?.['total']
  if (typeof total !== 'number') throw new Failure({ code: 'demo_failed', message: 'A ledger has no accounts' })
  return total
}

function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    database.exec('COMMIT')
    return result
  } catch (error) {
    database.exec('ROLLBACK')
    throw error
  }
}
