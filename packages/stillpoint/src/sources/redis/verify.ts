/**
 * Compares a server, as it is now, with a snapshot: a private server loads the snapshot, and both are asked.
 * Keys with a time to live go by themselves, at the same moment on both sides: one that is gone is no difference.
 */
import { writeFile } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'
import type { VerifyReport } from '../source.ts'
import type { Connection } from './client.ts'
import { keyState, scanKeys } from './content.ts'
import { type Info, readInfo } from './info.ts'
import { databasesNeeded, partNames } from './manifest.ts'
import { startPrivateServer } from './private-server.ts'
import type { RestoreContext } from './restore.ts'

type Check = VerifyReport['checks'][number]

/** How many keys of a database are compared by content. SCAN meets them in the order of their hashes: a fair sample. */
const keysComparedMax = 5_000

export async function verifyServer(
  target: Connection,
  context: Omit<RestoreContext, 'replace'>,
  signal: AbortSignal,
): Promise<VerifyReport> {
  const { manifest, scratchDir, clock, parts } = context
  const databases = Math.max(16, databasesNeeded(manifest))
  const stored = await startPrivateServer(
    { scratchDir, clock, address: '127.0.0.1', databases },
    (path) => writeFile(path, parts.file(partNames.rdb, signal), { mode: 0o600 }),
    signal,
  )
  try {
    const loaded = await readInfo(stored.connection, signal)
    const now = await readInfo(target, signal)
    const checks: Check[] = [
      sameCounts('keys in the snapshot', manifest.databases, loaded.databases),
      sameCounts('keys', manifest.databases, now.databases),
    ]
    for (const name of Object.keys(manifest.databases)) {
      checks.push(await sameContents({ stored: stored.connection, target, name, wallMs: () => clock.wallMs() }, signal))
    }
    checks.push(await sameFunctions(stored.connection, target, signal))
    return { checks }
  } finally {
    await stored.stop()
  }
}

function sameCounts(name: string, expected: Info['databases'], found: Info['databases']): Check {
  const none = { keys: 0, expires: 0 }
  const names = [...new Set([...Object.keys(expected), ...Object.keys(found)])].toSorted()
  const problems = names.flatMap((database) => {
    const [there, here] = [expected[database] ?? none, found[database] ?? none]
    const [lasting, lastingHere] = [there.keys - there.expires, here.keys - here.expires]
    if (lasting !== lastingHere)
      return [`${database}: ${lasting} keys without a time to live expected, ${lastingHere} found`]
    return here.expires > there.expires
      ? [`${database}: ${here.expires - there.expires} keys with a time to live too many`]
      : []
  })
  const total = names.reduce((sum, database) => sum + (expected[database]?.keys ?? 0), 0)
  return {
    name,
    passed: problems.length === 0,
    detail: problems.join('; ') || `${total} keys in ${names.length} databases`,
  }
}

interface Comparison {
  readonly stored: Connection
  readonly target: Connection
  /** Of the database, as INFO has it: `db0`. */
  readonly name: string
  readonly wallMs: () => number
}

async function sameContents({ stored, target, name, wallMs }: Comparison, signal: AbortSignal): Promise<Check> {
  const number = Number(name.slice(2))
  await stored.call(signal, 'SELECT', number)
  await target.call(signal, 'SELECT', number)
  const differing: string[] = []
  let compared = 0
  for await (const keys of scanKeys(stored, signal)) {
    for (const key of keys) {
      compared += 1
      const [expected, found] = [await keyState(stored, key, signal), await keyState(target, key, signal)]
      if (expected === undefined || (found === undefined && expected.expiresAt >= 0 && expected.expiresAt <= wallMs()))
        continue
      if (found?.digest !== expected.digest || found.expiresAt !== expected.expiresAt)
        differing.push(JSON.stringify(key.toString()))
    }
    if (compared >= keysComparedMax) break
  }
  const shown = differing.slice(0, 5).join(', ')
  return {
    name: `contents of ${name}`,
    passed: differing.length === 0,
    detail:
      differing.length === 0 ? `${compared} keys compared` : `${differing.length} of ${compared} keys differ: ${shown}`,
  }
}

async function sameFunctions(stored: Connection, target: Connection, signal: AbortSignal): Promise<Check> {
  const dump = async (connection: Connection): Promise<string> => {
    const bytes = await connection.callBytes(signal, 'FUNCTION', 'DUMP')
    if (!Buffer.isBuffer(bytes)) {
      throw new Failure({ code: 'store_failed', message: 'FUNCTION DUMP answered no bytes', hint: 'Is it a proxy?' })
    }
    return bytes.toString('base64')
  }
  const passed = (await dump(stored)) === (await dump(target))
  return { name: 'functions', passed, detail: passed ? 'equal' : 'the libraries of functions differ' }
}
