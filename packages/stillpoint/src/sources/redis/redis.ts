/**
 * The source for Redis and Valkey: CLIENT PAUSE as the hold, BGSAVE as the mark, its RDB file as the copy.
 *
 * Owns: the session of one server, and which cuts it has. Does not own: the steps (cut.ts, save.ts, restore.ts).
 * Not for clusters: each of their primaries would be a participant, and slots may move between them.
 */
import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type CutId, Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import { readSecret } from '../../config/secret.ts'
import type { CaptureSink, HoldReport, Source, SourceEnvironment, SourceSession } from '../source.ts'
import { type Connection, connect, type Login } from './client.ts'
import { type ServerCut, type ServerMark, serverCut } from './cut.ts'
import { type Info, readInfo, readSetting } from './info.ts'
import { type Manifest, partNames, readManifest } from './manifest.ts'
import { addressOf, describeAddress, type RedisOptions } from './options.ts'
import { readRdbHeader } from './rdb.ts'
import { checkTarget, restoreServer } from './restore.ts'
import { rdbPlace } from './save.ts'
import { verifyServer } from './verify.ts'

export { type RedisOptions, redisOptions } from './options.ts'

const reportsMax = 64
const readBytes = 1 << 20
/** What a cut calls; `rename-command` and ACLs take them away one by one. */
const commandsNeeded = ['BGSAVE', 'CLIENT', 'CONFIG', 'INFO', 'TIME']

export const redisSource: Source<RedisOptions> = {
  kind: 'redis',
  async open(options, env, signal) {
    const address = addressOf(options, env.baseDir)
    const password = await readSecret(options, env.baseDir, signal, env.note)
    const login: Login = { address, password }
    const connection = await connect(login, signal)
    try {
      await checkServer(await readInfo(connection, signal), login)
      await checkCommands(connection, login, signal)
      await readSetting(connection, 'dir', signal)
    } finally {
      connection.destroy()
    }
    return session({ options, env, login })
  },
}

async function checkServer(info: Info, login: Login): Promise<void> {
  const target = describeAddress(login.address)
  if (info.mode !== 'standalone') {
    throw new Failure({
      code: 'store_mode_unsupported',
      message: `${target} runs in ${info.mode} mode`,
      hint: 'Only standalone servers can be captured as one store.',
    })
  }
  if (info.role !== 'master') {
    throw new Failure({
      code: 'store_read_only',
      message: `${target} is a replica: writers can be held only on its primary`,
      hint: 'Name the primary in host or url. If a restore into this server was killed, run REPLICAOF NO ONE on it first.',
    })
  }
}

/** ACL DRYRUN tells without doing; where it may not be asked, the commands themselves will tell. */
async function checkCommands(connection: Connection, login: Login, signal: AbortSignal): Promise<void> {
  const target = describeAddress(login.address)
  const known = z.array(z.unknown()).parse(await connection.call(signal, 'COMMAND', 'INFO', ...commandsNeeded))
  const missing = commandsNeeded.filter((_, index) => known[index] === null)
  if (missing.length > 0) {
    throw new Failure({
      code: 'store_command_missing',
      message: `${target} has no command ${missing.join(', ')}`,
      hint: 'It is disabled or renamed (rename-command in the server’s configuration): a source needs it by its name.',
    })
  }
  const user = login.address.user ?? 'default'
  for (const words of [
    ['BGSAVE'],
    ['CLIENT', 'PAUSE', '1', 'WRITE'],
    ['CLIENT', 'UNPAUSE'],
    ['CONFIG', 'GET', 'dir'],
    ['TIME'],
  ]) {
    let verdict: unknown
    try {
      verdict = await connection.call(signal, 'ACL', 'DRYRUN', user, ...words)
    } catch (error) {
      if (error instanceof Failure && /^store_(privilege|command)_missing$/.test(error.code)) return
      throw error
    }
    if (verdict === 'OK') continue
    const command = words.slice(0, words[0] === 'CLIENT' || words[0] === 'CONFIG' ? 2 : 1)
    throw new Failure({
      code: 'store_privilege_missing',
      message: `the user ${user} of ${target} may not run ${command.join(' ')}: ${String(verdict)}`,
      hint: `Run: ACL SETUSER ${user} +${command.join('|').toLowerCase()} (docs/sources/redis.md lists all commands that are needed).`,
    })
  }
}

interface SessionContext {
  readonly options: RedisOptions
  readonly env: SourceEnvironment
  readonly login: Login
}

function session({ options, env, login }: SessionContext): SourceSession {
  const { dataDir } = options
  const { clock, scratchDir } = env
  const cuts = new Map<CutId, ServerCut>()
  const reports = new Map<CutId, HoldReport>()
  let closed = false

  const cutOf = (cut: CutId): ServerCut => {
    if (closed) throw new Failure({ code: 'session_closed', message: 'the source is closed', hint: 'Open it again.' })
    const known = cuts.get(cut)
    if (known !== undefined) return known
    const made = serverCut({ cut, login, clock, dataDir })
    cuts.set(cut, made)
    return made
  }
  const resume = async (cut: CutId): Promise<HoldReport> => {
    const known = reports.get(cut)
    if (known !== undefined) return known
    const report = (await cuts.get(cut)?.resume()) ?? { unbroken: false, detail: 'the server was not held' }
    if (cuts.has(cut)) reports.set(cut, report)
    for (const old of reports.keys()) if (reports.size > reportsMax) reports.delete(old)
    return report
  }
  const release = async (cut: CutId): Promise<void> => {
    await cuts.get(cut)?.release()
    if (reports.has(cut)) cuts.delete(cut)
  }
  return {
    traits: { hold: 'writes', mark: 'exact' },
    async prepare(cut, signal) {
      signal.throwIfAborted()
      return readiness(await cutOf(cut).connect(signal), { clock, dataDir }, signal)
    },
    quiesce: async (cut, leaseMs, signal) => cutOf(cut).quiesce(leaseMs, signal),
    mark: async (cut, signal) => cutOf(cut).mark(signal),
    resume,
    async capture(cut, sink, signal) {
      signal.throwIfAborted()
      return capture(cutOf(cut).taken(), sink, signal)
    },
    release,
    async checkTarget(parts, { replace }, signal) {
      const manifest = await readManifest(parts, signal)
      await withConnection(login, signal, (connection) => checkTarget(connection, { login, manifest, replace }, signal))
    },
    async restore(parts, { replace }, signal) {
      const manifest = await readManifest(parts, signal)
      return restoreServer({ login, clock, dataDir, scratchDir, manifest, parts, replace }, signal)
    },
    async verify(parts, signal) {
      const manifest = await readManifest(parts, signal)
      const context = { login, clock, dataDir, scratchDir, manifest, parts }
      return withConnection(login, signal, (connection) => verifyServer(connection, context, signal))
    },
    async close() {
      closed = true
      for (const cut of [...cuts.keys()]) {
        try {
          await resume(cut)
        } finally {
          await release(cut)
        }
      }
      cuts.clear()
    },
  }
}

async function readiness(
  connection: Connection,
  options: { clock: SourceEnvironment['clock']; dataDir: string | undefined },
  signal: AbortSignal,
) {
  const info = await readInfo(connection, signal)
  const place = await rdbPlace(connection, options, signal)
  const disk = await statfs(dirname(place.path))
  const freeBytes = disk.bavail * disk.bsize
  const notes: string[] = []
  const hasSavePoints = (await readSetting(connection, 'save', signal)) !== ''
  if (freeBytes < info.usedMemoryBytes) {
    const text = `${dirname(place.path)} has ${freeBytes} bytes free, and the server uses ${info.usedMemoryBytes} bytes of memory: its save may not fit`
    // A save that fails makes a server with save points refuse writes: no snapshot is worth that.
    if (hasSavePoints) throw new Failure({ code: 'disk_full', message: text, hint: 'Free some space on that disk.' })
    notes.push(text)
  }
  if (info.forked !== undefined) notes.push(`${info.forked} is under way: the hold waits for its end`)
  return { estimateBytes: info.usedMemoryBytes, version: `${info.product} ${info.version}`, notes }
}

async function capture(taken: ServerMark, sink: CaptureSink, signal: AbortSignal) {
  const file = await unlessAborted(taken.file, signal)
  const { formatVersion } = await readRdbHeader(file, partNames.rdb)
  const { size } = await file.stat()
  const { info } = taken
  const manifest: Manifest = {
    version: 1,
    source: 'redis',
    product: info.product,
    server: info.version,
    rdbVersion: formatVersion,
    databases: info.databases,
    usedMemoryBytes: info.usedMemoryBytes,
  }
  const content = async function* (): AsyncIterable<Uint8Array> {
    for (let at = 0; at < size; ) {
      signal.throwIfAborted()
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(readBytes), 0, readBytes, at)
      if (bytesRead === 0)
        throw new Failure({
          code: 'mark_lost',
          message: 'the RDB file of this cut became shorter',
          hint: 'Look who else writes into the server’s directory.',
        })
      at += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  }
  const rdb = await sink.file(partNames.rdb, content())
  const text = async function* () {
    yield Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`)
  }
  const listed = await sink.file(partNames.manifest, text())
  return { bytes: rdb.bytes + listed.bytes, files: 2, torn: [], notes: [] }
}

/** The work is not ours to end: the save goes on, and so does its pinning. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

async function withConnection<T>(
  login: Login,
  signal: AbortSignal,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await connect(login, signal)
  try {
    return await work(connection)
  } finally {
    connection.destroy()
  }
}
