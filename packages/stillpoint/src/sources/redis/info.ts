/** What a server says of itself, read at one instant: the one answer of INFO, and the settings that matter here. */
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Connection } from './client.ts'

export interface DatabaseKeys {
  readonly keys: number
  /** Of those, how many have a time to live. */
  readonly expires: number
}

export interface Info {
  readonly product: 'Redis' | 'Valkey'
  readonly version: string
  readonly runId: string
  readonly mode: string
  readonly role: string
  readonly usedMemoryBytes: number
  readonly replicationId: string
  readonly replicationOffset: number
  /** Changes of the data since the last save that succeeded. Each write counts, with replicas or without. */
  readonly changes: number
  /** How many saves have been begun in this life of the server: by us, by save points, for replicas. */
  readonly saves: number
  readonly saving: boolean
  /** A child process of any kind, which keeps BGSAVE from starting. */
  readonly forked: string | undefined
  readonly lastSaveOk: boolean
  /** When the last save that succeeded ended, seconds since 1970. */
  readonly lastSaveAt: number
  readonly linkUp: boolean
  readonly syncing: boolean
  readonly databases: Readonly<Record<string, DatabaseKeys>>
}

/** @throws Failure `store_version_unsupported` where INFO lacks what we rely on */
export async function readInfo(connection: Connection, signal: AbortSignal): Promise<Info> {
  const text = z.string().parse(await connection.call(signal, 'INFO'))
  const fields = new Map<string, string>()
  for (const line of text.split('\r\n')) {
    const at = line.indexOf(':')
    if (at > 0) fields.set(line.slice(0, at), line.slice(at + 1))
  }
  const need = (name: string): string => {
    const value = fields.get(name)
    if (value !== undefined) return value
    throw new Failure({
      code: 'store_version_unsupported',
      message: `the server (version ${fields.get('redis_version') ?? 'unknown'}) does not tell ${name} in INFO`,
      hint: 'Redis 7.0 or newer, or Valkey, is needed.',
    })
  }
  const count = (name: string) => Number(need(name))
  const databases: Record<string, DatabaseKeys> = {}
  for (const [name, value] of fields) {
    const found = /^keys=(\d+),expires=(\d+)/.exec(value)
    if (/^db\d+$/.test(name) && found !== null) databases[name] = { keys: Number(found[1]), expires: Number(found[2]) }
  }
  const valkey = fields.get('valkey_version')
  const forks = {
    rdb_bgsave_in_progress: 'a save',
    aof_rewrite_in_progress: 'a rewrite of the append-only file',
    module_fork_in_progress: 'a fork of a module',
  }
  return {
    product: valkey === undefined ? 'Redis' : 'Valkey',
    version: valkey ?? need('redis_version'),
    runId: need('run_id'),
    mode: fields.get('redis_mode') ?? fields.get('server_mode') ?? 'standalone',
    role: need('role'),
    usedMemoryBytes: count('used_memory'),
    replicationId: need('master_replid'),
    replicationOffset: count('master_repl_offset'),
    changes: count('rdb_changes_since_last_save'),
    saves: count('rdb_saves'),
    saving: need('rdb_bgsave_in_progress') === '1',
    forked: Object.entries(forks).find(([name]) => fields.get(name) === '1')?.[1],
    lastSaveOk: need('rdb_last_bgsave_status') === 'ok',
    lastSaveAt: count('rdb_last_save_time'),
    linkUp: fields.get('master_link_status') === 'up',
    syncing: fields.get('master_sync_in_progress') === '1',
    databases,
  }
}

/** A setting's value. @throws Failure `store_privilege_missing` | `store_command_missing` */
export async function readSetting(connection: Connection, name: string, signal: AbortSignal): Promise<string> {
  const answer = z.array(z.string()).parse(await connection.call(signal, 'CONFIG', 'GET', name))
  return answer[1] ?? ''
}

/** The server's own time, in whole seconds since 1970. */
export async function readTime(connection: Connection, signal: AbortSignal): Promise<number> {
  return Number(z.array(z.string()).parse(await connection.call(signal, 'TIME'))[0])
}
