/**
 * Owns looking at a bucket with versions as it was at a moment: what was removed or overwritten since is there again.
 * For a repository that somebody has destroyed with the backup's own keys, where Object Lock has kept the versions.
 * Nothing in the bucket is changed, so that it works while the intruder still has access, and whatever they have put.
 *
 * Invariants: 1. Nothing is stored or removed there. Locks, which readers take too, are kept in memory: they protect
 * against programs that change what is read, and versions do not change. 2. Of each key the version counts that was the
 * newest at the moment, by the server's clock; where that is a delete marker, the key is absent.
 */
import type { ListObjectVersionsOutput } from '@aws-sdk/client-s3'
import { Failure } from '@stillpoint/core/kernel'
import type { BlobStore, ByteRange, ObjectKind, ObjectName, StoredObject } from './blob-store.ts'
import type { S3Bucket } from './s3-client.ts'

export interface S3AsOfPlace {
  readonly asOf: Date
  /** `keys/` … below the repository; `config` for the config. */
  folderOf(kind: ObjectKind): string
  /** The name of the object of this kind at a path below the repository, or undefined where it is none of ours. */
  nameAt(kind: ObjectKind, path: string): string | undefined
  locate(object: ObjectName): string
  get(object: ObjectName, range: ByteRange | undefined, versionId: string | undefined): Promise<Buffer>
}

interface Version {
  readonly id: string | undefined
  readonly bytes: number
}

const batchObjectsMax = 1000

type View = ReadonlyMap<string, Version>

export function createS3AsOf(bucket: S3Bucket, place: S3AsOfPlace): BlobStore {
  const views = new Map<ObjectKind, Promise<View>>()
  const locks = new Map<string, Buffer>()
  const at = place.asOf.toISOString()

  function viewOf(kind: ObjectKind): Promise<View> {
    const known = views.get(kind)
    if (known !== undefined) return known
    const view = viewAt(bucket, place, kind)
    views.set(kind, view)
    // The next call asks again; this one's caller gets the error.
    view.catch(() => views.delete(kind))
    return view
  }
  const versionOf = async ({ kind, name }: ObjectName) => (await viewOf(kind)).get(name)
  const absent = (object: ObjectName) =>
    new Failure({
      code: 'object_missing',
      message: `${object.kind} ${object.name} was not at ${place.locate(object)} on ${at}`,
    })
  const unchanging = (what: string) =>
    new Failure({
      code: 'storage_denied',
      message: `${what}: the repository is only looked at, as it was on ${at}`,
      hint: 'Restore from it, or copy it to another repository; to change it, open it as it is now.',
    })

  return {
    traits: { atomicCreate: true },
    locate: place.locate,
    async prepare() {
      throw unchanging('making a repository')
    },
    async put(object, bytes) {
      if (object.kind !== 'lock') throw unchanging(`storing ${object.kind} ${object.name}`)
      if (locks.has(object.name)) return 'exists'
      locks.set(object.name, Buffer.from(bytes))
      return 'created'
    },
    async get(object, range) {
      if (object.kind === 'lock') {
        const bytes = locks.get(object.name)
        if (bytes === undefined) throw absent(object)
        return Buffer.from(range === undefined ? bytes : bytes.subarray(range.offset, range.offset + range.length))
      }
      const version = await versionOf(object)
      if (version === undefined) throw absent(object)
      // HTTP has no empty ranges.
      if (range?.length === 0 && range.offset <= version.bytes) return Buffer.alloc(0)
      return place.get(object, range, version.id)
    },
    async size(object) {
      if (object.kind === 'lock') return locks.get(object.name)?.length
      return (await versionOf(object))?.bytes
    },
    async *list(kind) {
      if (kind === 'lock') yield Array.from(locks, ([name, { length }]) => ({ name, bytes: length }))
      else yield* inBatches(await viewOf(kind))
    },
    async delete(object) {
      if (object.kind !== 'lock') throw unchanging(`removing ${object.kind} ${object.name}`)
      if (!locks.delete(object.name)) throw absent(object)
    },
    async sweep() {
      throw unchanging('removing unfinished uploads')
    },
  }
}

/** The view is in memory as a whole; what is listed of it need not be. */
function* inBatches(view: View): Generator<readonly StoredObject[]> {
  let batch: StoredObject[] = []
  for (const [name, { bytes }] of view) {
    if (batch.push({ name, bytes }) < batchObjectsMax) continue
    yield batch
    batch = []
  }
  yield batch
}

async function viewAt(bucket: S3Bucket, place: S3AsOfPlace, kind: ObjectKind): Promise<View> {
  /** Of each name the newest version that is not newer than the moment; without one: it was removed. */
  const newest = new Map<string, { readonly atMs: number; readonly version: Version | undefined }>()
  const consider = (key: string | undefined, at: Date | undefined, version: Version | undefined) => {
    if (key === undefined || at === undefined || at > place.asOf) return
    const name = place.nameAt(kind, key.slice(bucket.keyOf('').length))
    if (name === undefined) return
    const known = newest.get(name)
    const atMs = at.getTime()
    // Servers tell whole seconds. Of two versions in one, the first in the list is the newer; of a version and a removal
    // nothing says which, and what was there for a moment is better seen than missed.
    const isTie = known?.atMs === atMs && known.version === undefined
    if (known === undefined || known.atMs < atMs || isTie) newest.set(name, { atMs, version })
  }
  const folder = place.folderOf(kind)
  for await (const { DeleteMarkers, Versions } of pagesOf(bucket, folder)) {
    for (const { Key, LastModified } of DeleteMarkers ?? []) consider(Key, LastModified, undefined)
    for (const { Key, LastModified, VersionId, Size } of Versions ?? []) {
      if (Size === undefined) throw unreadable(bucket, folder)
      consider(Key, LastModified, { id: VersionId, bytes: Size })
    }
  }
  const view = new Map<string, Version>()
  for (const [name, { version }] of newest) if (version !== undefined) view.set(name, version)
  return view
}

async function* pagesOf(bucket: S3Bucket, folder: string): AsyncGenerator<ListObjectVersionsOutput> {
  let from: { readonly KeyMarker?: string; readonly VersionIdMarker?: string } = {}
  for (;;) {
    const command = new bucket.sdk.ListObjectVersionsCommand({
      Bucket: bucket.bucket,
      Prefix: bucket.keyOf(folder),
      ...from,
    })
    const page: ListObjectVersionsOutput = await bucket
      .send((client, options) => client.send(command, options))
      .catch((error: unknown) => {
        throw bucket.failure(error, { doing: 'listing the versions of', path: folder })
      })
    yield page
    if (page.IsTruncated !== true) return
    const { NextKeyMarker: KeyMarker, NextVersionIdMarker: VersionIdMarker } = page
    // A list that goes on without saying where, or from where it was, would be taken for whole, or never end.
    const isSame = KeyMarker === from.KeyMarker && VersionIdMarker === from.VersionIdMarker
    if (KeyMarker === undefined || isSame) throw unreadable(bucket, folder)
    from = { KeyMarker, ...(VersionIdMarker ? { VersionIdMarker } : {}) }
  }
}

function unreadable(bucket: S3Bucket, folder: string): Failure {
  return new Failure({
    code: 'storage_failed',
    message: `listing the versions of ${bucket.locate(folder)}: the list has no sizes, or goes on without an end`,
    hint: 'Check the location: is it a server that keeps versions?',
  })
}
