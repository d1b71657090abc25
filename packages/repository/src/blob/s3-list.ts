/**
 * Owns listing on S3: pages, names that are not ours, and lists that come late. Amazon's lists have been up to date since
 * 2020; those of others, such as Swift while a storage node is down, may lack what was just put and have what was just
 * deleted. Single objects are not late: whoever asks for one is answered by whichever node has it.
 *
 * Invariant: a list has what this store has put and nothing that it has deleted, unless others have changed that since:
 * where the server's list says otherwise, the object itself is looked at. What other programs have just done may be
 * missing from a late list: docs/limits.md says what follows.
 */
import { Failure } from '@stillpoint/core/kernel'
import { isId } from '../format/ids.ts'
import { eachOf } from '../parallel.ts'
import type { ObjectKind, StoredObject } from './blob-store.ts'
import type { S3Bucket } from './s3-client.ts'

export type ListedKind = Exclude<ObjectKind, 'config'>

export interface S3Lists {
  /** A page after another. */
  list(kind: ListedKind): AsyncIterable<readonly StoredObject[]>
  /** What this store has done, for the invariant. */
  hasPut(kind: ObjectKind, name: string): void
  hasDeleted(kind: ObjectKind, name: string): void
}

export interface ListedPlace {
  /** `keys/` … below the repository. */
  folderOf(kind: ListedKind): string
  pathOf(kind: ListedKind, name: string): string
  sizeOf(path: string): Promise<number | undefined>
}

const lookedAtOnce = 8

export function createS3Lists(bucket: S3Bucket, place: ListedPlace): S3Lists {
  /** By kind: names that this store has put (true) or deleted (false). */
  const changes = new Map<ObjectKind, Map<string, boolean>>()
  const note = (kind: ObjectKind, name: string, isThere: boolean) => {
    const noted = changes.get(kind) ?? new Map<string, boolean>()
    changes.set(kind, noted.set(name, isThere))
  }
  return {
    hasPut: (kind, name) => note(kind, name, true),
    hasDeleted: (kind, name) => note(kind, name, false),
    async *list(kind) {
      // Before the list is asked for: what is changed meanwhile may be in it or not.
      const noted = changes.get(kind) ?? new Map<string, boolean>()
      const [put, deleted] = [new Set<string>(), new Set<string>()]
      for (const [name, isThere] of noted) (isThere ? put : deleted).add(name)
      const doubtful = new Set<string>()
      for await (const page of pagesOf(bucket, place, kind)) {
        yield page.filter(({ name }) => {
          put.delete(name)
          if (!deleted.has(name)) return true
          doubtful.add(name)
          return false
        })
      }
      const found: StoredObject[] = []
      await eachOf([...put, ...doubtful], lookedAtOnce, async (name) => {
        const bytes = await place.sizeOf(place.pathOf(kind, name))
        if (bytes !== undefined) found.push({ name, bytes })
      })
      yield found
    },
  }
}

async function* pagesOf(
  bucket: S3Bucket,
  place: ListedPlace,
  kind: ListedKind,
): AsyncGenerator<readonly StoredObject[]> {
  const folder = place.folderOf(kind)
  let token: string | undefined
  do {
    const command = new bucket.sdk.ListObjectsV2Command({
      Bucket: bucket.bucket,
      Prefix: bucket.keyOf(folder),
      ...(token === undefined ? {} : { ContinuationToken: token }),
    })
    const answer = await bucket
      .send((client, options) => client.send(command, options))
      .catch((error: unknown) => {
        throw bucket.failure(error, { doing: 'listing', path: folder })
      })
    const found: StoredObject[] = []
    for (const { Key = '', Size } of answer.Contents ?? []) {
      const name = Key.slice(Key.lastIndexOf('/') + 1)
      // What others have put there is not ours.
      if (!isId(name) || Key !== bucket.keyOf(place.pathOf(kind, name))) continue
      if (Size === undefined) throw unreadable(bucket, folder)
      found.push({ name, bytes: Size })
    }
    const next = answer.IsTruncated === true ? answer.NextContinuationToken : undefined
    // A list that goes on without saying where, or from where it was, would be taken for whole, or never end.
    if (answer.IsTruncated === true && (next === undefined || next === token)) throw unreadable(bucket, folder)
    yield found
    token = next
  } while (token !== undefined)
}

function unreadable(bucket: S3Bucket, folder: string): Failure {
  return new Failure({
    code: 'storage_failed',
    message: `listing ${bucket.locate(folder)}: the server's list has no sizes, or goes on without an end`,
    hint: 'Check the location: is it a server that speaks S3?',
  })
}
