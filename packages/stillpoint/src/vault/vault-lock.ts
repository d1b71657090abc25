/**
 * One vault at a time on a directory: a second one would take the uploads of the first for remains, and not know of
 * its quotas.
 *
 * The right is a lock of the operating system (the exclusive transaction of an SQLite database in which nothing is
 * ever written). It ends with its process, however that ends, and is never judged by a pid or a clock.
 */
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Failure } from '@stillpoint/core/kernel'
import { storageFailure } from '@stillpoint/repository'

const lockFileName = '.vault.lock'
const sqliteBusy = 5

export interface VaultLock {
  release(): void
}

/** Makes the directory where there is none. @throws Failure `vault_running`, `storage_denied`, `storage_failed` */
export async function lockVault(root: string): Promise<VaultLock> {
  try {
    await mkdir(root, { recursive: true, mode: 0o700 })
    if (((await stat(root)).mode & 0o002) !== 0) throw new Error('every user of this machine can write it')
  } catch (error) {
    throw storageFailure(error, 'preparing the vault', root)
  }
  const path = join(root, lockFileName)
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path)
    database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
    const held = database
    return { release: () => held.close() }
  } catch (error) {
    database?.close()
    if (error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy) {
      const message = `A vault runs on ${root} already`
      throw new Failure({ code: 'vault_running', message, hint: 'Use that, or stop it first.', cause: error })
    }
    throw storageFailure(error, 'locking the vault', path)
  }
}
