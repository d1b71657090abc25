/**
 * What stock restic says of the repository that Stillpoint has written: an independent witness.
 *
 * Owns: running restic, and the comparison. Does not own: what was restored by Stillpoint, which it is compared with.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { findTool } from '@stillpoint/testbed'
import type { ShopServers } from './servers.ts'

export interface ResticReport {
  /** `restic check --read-data` found no error. */
  readonly checked: boolean
  /** `restic restore latest` has the same invoices, byte for byte, as Stillpoint restored. */
  readonly equal: boolean
  /** How many invoices were compared. */
  readonly invoices: number
  readonly detail: string
}

const run = promisify(execFile)

/** Invoice name → content, wherever below the directory they are. */
async function invoicesBelow(directory: string): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/^\d+\.json$/.test(basename(entry.name))) continue
    found.set(entry.name, await readFile(join(entry.parentPath, entry.name), 'utf8'))
  }
  return found
}

function equal(one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): boolean {
  return one.size === other.size && [...one].every(([name, content]) => other.get(name) === content)
}

/** Compares the latest snapshot with the directory that Stillpoint restored it to. `null`: restic is not installed. */
export async function compareWithRestic(servers: ShopServers, invoices: string): Promise<ResticReport | null> {
  const restic = findTool('restic')
  if (restic === undefined) return null
  const target = await mkdtemp(join(servers.directory, 'restic-'))
  const repository = ['--repo', join(servers.directory, 'snapshots'), '--no-cache']
  const secret = ['--password-file', join(servers.directory, 'repository-password')]
  const each = (...args: readonly string[]) => run(restic, [...repository, ...secret, ...args], { maxBuffer: 64 << 20 })
  try {
    await each('check', '--read-data')
    await each('restore', 'latest', '--target', target)
    const [theirs, ours] = await Promise.all([invoicesBelow(target), invoicesBelow(invoices)])
    return { checked: true, equal: ours.size > 0 && equal(theirs, ours), invoices: ours.size, detail: '' }
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error)
    return { checked: false, equal: false, invoices: 0, detail: detail.slice(0, 2000) }
  } finally {
    await rm(target, { recursive: true, force: true })
  }
}
