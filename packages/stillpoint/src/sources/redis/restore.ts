/**
 * Brings a captured server back: a private server loads the snapshot, the target becomes its replica until it has all of
 * it, and is then on its own again.
 *
 * Invariants:
 * - R1 The target keeps its old data until it has received the new one in full: that is how a replica synchronises. What
 *   fails after that is put back from a copy that was taken before, where its file can be read here.
 * - R2 However the restore ends, the target is no replica of ours, and has its own password for masters again.
 * - R3 A target that could not hold the data (databases, memory, version) is refused before it is touched: a replica that
 *   cannot load what it was sent ends, or stays empty.
 */
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, Failure, isFailure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Parts, RestoreReport } from '../source.ts'
import { type Connection, connect, type Login } from './client.ts'
import { sleep } from './hold.ts'
import { type Info, readInfo, readSetting } from './info.ts'
import { databasesNeeded, type Manifest, partNames } from './manifest.ts'
import { describeAddress } from './options.ts'
import { findServer, type PrivateServer, startPrivateServer } from './private-server.ts'
import { beginSave } from './save.ts'

export interface RestoreContext {
  readonly login: Login
  readonly clock: Clock
  readonly dataDir: string | undefined
  readonly scratchDir: string
  readonly manifest: Manifest
  readonly parts: Parts
  readonly replace: boolean
}

const stalledMs = 20_000
const cleanUpTimeoutMs = 15_000

/** @throws Failure `target_not_empty` | `target_too_small` | `store_version_unsupported` | `tool_missing` */
export async function checkTarget(
  connection: Connection,
  context: Pick<RestoreContext, 'login' | 'manifest' | 'replace'>,
  signal: AbortSignal,
): Promise<Info> {
  const { manifest, replace } = context
  const target = describeAddress(context.login.address)
  findServer()
  const info = await readInfo(connection, signal)
  const content = await contentOf(connection, info, signal)
  if (content !== undefined && !replace) {
    throw new Failure({
      code: 'target_not_empty',
      message: `${target} is not empty: it has ${content}`,
      hint: 'Restore into an empty server, or say that it is to be replaced (--replace).',
    })
  }
  if (info.product === manifest.product && olderThan(info.version, manifest.server)) {
    throw new Failure({
      code: 'store_version_unsupported',
      message: `${target} is ${info.product} ${info.version}, older than the ${manifest.server} that the snapshot was taken of`,
      hint: `Restore into ${manifest.product} ${manifest.server} or newer.`,
    })
  }
  const databases = Number(await readSetting(connection, 'databases', signal))
  if (databases < databasesNeeded(manifest)) {
    throw tooSmall(target, `it has ${databases} databases, and the snapshot ${databasesNeeded(manifest)}`, 'databases')
  }
  if ((await readSetting(connection, 'tls-replication', signal)) === 'yes') {
    throw new Failure({
      code: 'options_invalid',
      message: `${target} replicates by TLS only (tls-replication)`,
      hint: 'Set tls-replication no for the time of the restore.',
    })
  }
  return info
}

function tooSmall(target: string, why: string, setting: string): Failure {
  return new Failure({
    code: 'target_too_small',
    message: `${target} cannot hold the snapshot: ${why}`,
    hint: `Raise ${setting} in its configuration.`,
  })
}

/** By major and minor version: a patch release changes no format. */
function olderThan(version: string, other: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [otherMajor = 0, otherMinor = 0] = other.split('.').map(Number)
  return major < otherMajor || (major === otherMajor && minor < otherMinor)
}

/** In words; undefined when there is nothing. */
async function contentOf(connection: Connection, info: Info, signal: AbortSignal): Promise<string | undefined> {
  const keys = Object.values(info.databases).reduce((sum, database) => sum + database.keys, 0)
  const functions = z.array(z.unknown()).parse(await connection.call(signal, 'FUNCTION', 'LIST'))
  if (keys > 0) return `${keys} keys`
  return functions.length > 0 ? `${functions.length} libraries of functions` : undefined
}

export async function restoreServer(context: RestoreContext, signal: AbortSignal): Promise<RestoreReport> {
  const connection = await connect(context.login, signal)
  try {
    const info = await checkTarget(connection, context, signal)
    const auth = await readAuth(connection, signal)
    const notes: string[] = []
    const old = context.replace ? await keepOld(connection, { context, notes }, signal) : undefined
    let bytes = 0
    const source = await privateServer(connection, context, signal, async (path) => {
      bytes = await writePart(context.parts.file(partNames.rdb, signal), path)
    })
    try {
      await checkFit(connection, source, context, signal)
      await replicateSafely(connection, { context, source, auth, info, old }, signal)
    } finally {
      await source.stop()
    }
    notes.push(...(await persist(connection, context.clock, signal)))
    return { bytes, notes }
  } finally {
    connection.destroy()
  }
}

async function writePart(content: AsyncIterable<Uint8Array>, path: string): Promise<number> {
  let bytes = 0
  await writeFile(
    path,
    (async function* () {
      for await (const chunk of content) {
        bytes += chunk.length
        yield chunk
      }
    })(),
    { mode: 0o600 },
  )
  return bytes
}

function privateServer(
  target: Connection,
  context: RestoreContext,
  signal: AbortSignal,
  write: (path: string) => Promise<void>,
): Promise<PrivateServer> {
  const { scratchDir, clock, manifest } = context
  // Where the target can reach us: the address that we reach it from.
  const address = (target.localAddress ?? '127.0.0.1').replace(/^::ffff:/, '')
  const databases = Math.max(16, databasesNeeded(manifest))
  return startPrivateServer({ scratchDir, clock, address, databases }, write, signal)
}

/** R3: with a limit and a policy of eviction, the target would begin to drop keys as soon as it is on its own. */
async function checkFit(
  connection: Connection,
  source: PrivateServer,
  context: RestoreContext,
  signal: AbortSignal,
): Promise<void> {
  const limit = Number(await readSetting(connection, 'maxmemory', signal))
  const { usedMemoryBytes } = await readInfo(source.connection, signal)
  if (limit === 0 || usedMemoryBytes <= limit) return
  const why = `it takes ${usedMemoryBytes} bytes of memory, and maxmemory is ${limit}`
  throw tooSmall(describeAddress(context.login.address), why, 'maxmemory')
}

interface Auth {
  readonly user: string
  readonly password: string
}

async function readAuth(connection: Connection, signal: AbortSignal): Promise<Auth> {
  return {
    user: await readSetting(connection, 'masteruser', signal),
    password: await readSetting(connection, 'masterauth', signal),
  }
}

async function setAuth(connection: Connection, auth: Auth, signal: AbortSignal): Promise<void> {
  await connection.call(signal, 'CONFIG', 'SET', 'masteruser', auth.user, 'masterauth', auth.password)
}

interface Replication {
  readonly context: RestoreContext
  readonly source: PrivateServer
  readonly auth: Auth
  /** The target as it was. */
  readonly info: Info
  readonly old: string | undefined
}

async function replicateSafely(connection: Connection, replication: Replication, signal: AbortSignal): Promise<void> {
  const { context, auth } = replication
  try {
    await replicate(connection, replication.source, context, signal)
    await connection.call(signal, 'REPLICAOF', 'NO', 'ONE')
    await setAuth(connection, auth, signal)
  } catch (error) {
    await undo(replication, error)
    throw error
  }
}

/** Answers when the target has all that the source has. */
async function replicate(
  connection: Connection,
  source: PrivateServer,
  context: RestoreContext,
  signal: AbortSignal,
): Promise<void> {
  const { clock } = context
  const { host, port } = source.login.address
  await setAuth(connection, { user: '', password: source.password }, signal)
  await connection.call(signal, 'REPLICAOF', host, port)
  let movedMs = clock.monotonicMs()
  for (;;) {
    const now = await readInfo(connection, signal)
    // A master takes a new id when its first replica comes: it is asked each time.
    const { replicationId } = await readInfo(source.connection, signal)
    if (now.linkUp && !now.syncing && now.replicationId === replicationId) return
    if (now.syncing || now.linkUp) movedMs = clock.monotonicMs()
    if (clock.monotonicMs() - movedMs > stalledMs) {
      throw new Failure({
        code: 'restore_failed',
        message: `${describeAddress(context.login.address)} could not fetch the snapshot from ${host}:${port}, a server that this restore had started`,
        hint: 'Run the restore on the target’s machine. The target’s log says what stood in the way.',
      })
    }
    await sleep(clock, 20, signal)
  }
}

/** R2, and R1 for what was replaced already. Over a connection of its own: the first one may be what has failed. */
async function undo(replication: Replication, failure: unknown): Promise<void> {
  const { context, auth, info, old } = replication
  const target = describeAddress(context.login.address)
  const signal = AbortSignal.timeout(cleanUpTimeoutMs)
  try {
    const connection = await connect(context.login, signal)
    try {
      await connection.call(signal, 'REPLICAOF', 'NO', 'ONE')
      await setAuth(connection, auth, signal)
      const now = await readInfo(connection, signal)
      // Keys with a time to live may have gone meanwhile by themselves.
      if (old === undefined || persistentKeys(now) === persistentKeys(info)) return
      const source = await privateServer(connection, context, signal, (path) => copyFile(old, path))
      try {
        await replicate(connection, source, context, signal)
        await connection.call(signal, 'REPLICAOF', 'NO', 'ONE')
        await setAuth(connection, auth, signal)
      } finally {
        await source.stop()
      }
    } finally {
      connection.destroy()
    }
  } catch (cause) {
    throw new Failure({
      code: 'restore_failed',
      message: `the restore failed (${failure instanceof Error ? failure.message : String(failure)}), and ${target} could not be put back: ${cause instanceof Error ? cause.message : String(cause)}`,
      hint: `Run REPLICAOF NO ONE on it, and check its masterauth.${old === undefined ? '' : ` Its old data is in ${old}.`}`,
      cause,
    })
  }
}

function persistentKeys(info: Info): string {
  return JSON.stringify(Object.entries(info.databases).map(([name, { keys, expires }]) => [name, keys - expires]))
}

/** A copy of what the target holds, in our scratch directory; or a note that there is none. */
async function keepOld(
  connection: Connection,
  { context, notes }: { readonly context: RestoreContext; readonly notes: string[] },
  signal: AbortSignal,
): Promise<string | undefined> {
  const path = join(context.scratchDir, 'before-restore.rdb')
  try {
    const save = await beginSave(connection, { clock: context.clock, dataDir: context.dataDir }, signal)
    const file = await save.pin(signal)
    try {
      await writePart(file.createReadStream({ start: 0, autoClose: false }), path)
      return path
    } finally {
      await file.close()
    }
  } catch (error) {
    if (!isFailure(error, 'store_not_local') && !isFailure(error, 'store_privilege_missing')) throw error
    notes.push(`no copy of the old data was kept: ${error.message}`)
    return undefined
  }
}

/** What came by replication counts as no change: with save points, the server would not write it to its disk by itself. */
async function persist(connection: Connection, clock: Clock, signal: AbortSignal): Promise<readonly string[]> {
  if ((await readSetting(connection, 'save', signal)) === '') return []
  const begun = await readInfo(connection, signal)
  if (begun.forked === undefined) await connection.call(signal, 'BGSAVE')
  for (;;) {
    const now = await readInfo(connection, signal)
    if (now.forked === undefined) {
      return now.lastSaveOk ? [] : ['the restored data could not be written to the server’s disk: its log says why']
    }
    await sleep(clock, 50, signal)
  }
}
