/**
 * How much each user stores, against what they may.
 *
 * Owns: the sums and reservations. Does not own: the files; whoever changes them tells.
 *
 * Invariants:
 * - Bytes are reserved before they are written, so that concurrent uploads cannot pass a quota together.
 * - A user's sum is counted from the disk once, before the first change that is bound by a quota, and kept from there.
 * - A full quota can be emptied: what a prune must write before it may delete (locks, indexes) has some room beyond it.
 */
import { opendir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { errnoOf } from '@stillpoint/repository'
import type { ObjectAt } from './request-target.ts'

/** Beyond the quota, for locks and indexes only. */
export const quotaSlackBytes = 64 * 1024 * 1024

export interface Account {
  readonly user: string
  readonly quotaBytes?: number
}

export interface Reservation {
  /** Takes so many bytes more. @throws Failure `quota_exceeded` */
  add(bytes: number): void
  /** The bytes are stored: they count from now on. */
  keep(bytes: number): void
  /** Gives back what was not kept. Idempotent. */
  release(): void
}

export interface Usage {
  /** Waits for the user's sum where that is needed. Without a quota, nothing is bound. */
  reserve(account: Account, folder: ObjectAt['folder']): Promise<Reservation>
  /** Before bytes are freed: a sum that is being counted must not miss it. */
  settled(user: string): Promise<void>
  freed(user: string, bytes: number): void
  /** What is known: users who have a quota and have been here. */
  known(): ReadonlyMap<string, { readonly bytes: number; readonly quotaBytes: number | undefined }>
}

interface Sum {
  bytes: number
  reservedBytes: number
  quotaBytes: number | undefined
}

const unbound: Reservation = { add: () => {}, keep: () => {}, release: () => {} }

/** @param skips names of folders directly below a user that do not count */
export function createUsage(root: string, skips: ReadonlySet<string>): Usage {
  const sums = new Map<string, Sum>()
  const counting = new Map<string, Promise<Sum>>()

  function sumOf(user: string): Promise<Sum> {
    const running = counting.get(user)
    if (running !== undefined) return running
    const counted = bytesBelow(join(root, user), skips).then(
      (bytes) => {
        const sum = { bytes, reservedBytes: 0, quotaBytes: undefined }
        sums.set(user, sum)
        return sum
      },
      (error: unknown) => {
        counting.delete(user) // the next request counts again
        throw error
      },
    )
    counting.set(user, counted)
    return counted
  }

  return {
    async reserve({ user, quotaBytes }, folder) {
      // A sum that was once counted is kept, lest a quota that is taken away and given again finds an old one.
      if (quotaBytes === undefined && !counting.has(user)) return unbound
      const sum = await sumOf(user)
      sum.quotaBytes = quotaBytes
      const limit =
        (quotaBytes ?? Number.POSITIVE_INFINITY) + (folder === 'locks' || folder === 'index' ? quotaSlackBytes : 0)
      let reserved = 0
      return {
        add(bytes) {
          if (sum.bytes + sum.reservedBytes + bytes > limit) throw quotaExceeded(user, sum, bytes)
          sum.reservedBytes += bytes
          reserved += bytes
        },
        keep(bytes) {
          sum.bytes += bytes
        },
        release() {
          sum.reservedBytes -= reserved
          reserved = 0
        },
      }
    },
    async settled(user) {
      await counting.get(user)
    },
    freed(user, bytes) {
      const sum = sums.get(user)
      if (sum !== undefined) sum.bytes = Math.max(0, sum.bytes - bytes)
    },
    known: () => sums,
  }
}

function quotaExceeded(user: string, sum: Sum, bytes: number): Failure {
  const under = sum.reservedBytes === 0 ? '' : ` (and ${sum.reservedBytes} under way)`
  return new Failure({
    code: 'quota_exceeded',
    message: `The quota of ${user} is used up: ${sum.bytes} of ${sum.quotaBytes} bytes${under}, and ${bytes} more do not fit`,
    hint: 'Forget and prune snapshots, or ask whoever runs the vault for more.',
  })
}

async function bytesBelow(path: string, skips: ReadonlySet<string>): Promise<number> {
  let bytes = 0
  const directory = await opendir(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined // nothing stored yet
    throw error
  })
  for await (const entry of directory ?? []) {
    const inside = join(path, entry.name)
    if (entry.isDirectory()) bytes += skips.has(entry.name) ? 0 : await bytesBelow(inside, skips)
    else if (entry.isFile()) bytes += (await stat(inside).catch(unlessGone))?.size ?? 0
  }
  return bytes
}

function unlessGone(error: unknown): undefined {
  if (errnoOf(error) !== 'ENOENT') throw error
}
