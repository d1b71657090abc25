/**
 * Owns Object Lock on S3: what is asked for with each upload, and that it was given. Does not own uploads (s3-upload.ts).
 *
 * Invariant: what was to be protected is protected, or the upload fails. Servers leave protection out without a word:
 * those that do not know it (so the bucket is asked first), and Ceph 16.2 for objects that are sent in parts (so those
 * are looked at afterwards, and protected then).
 */
import type { ObjectLockMode } from '@aws-sdk/client-s3'
import { type Clock, Failure } from '@stillpoint/core/kernel'
import type { ObjectKind } from './blob-store.ts'
import type { S3Bucket } from './s3-client.ts'
import { refusalOf } from './s3-failure.ts'

export interface S3Retention {
  /** `COMPLIANCE`: nobody can end it early, not even the owner of the account. */
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE'
  /** From the upload of each object. */
  readonly days: number
}

/** As an upload carries it. */
export interface S3Protection {
  readonly ObjectLockMode: ObjectLockMode
  readonly ObjectLockRetainUntilDate: Date
}

export interface S3ObjectLock {
  /**
   * What an upload of this kind is to carry.
   * @throws Failure `options_invalid` where the bucket has no Object Lock
   */
  protectionFor(kind: ObjectKind): Promise<S3Protection | undefined>
  /**
   * Of an object that was sent in parts, now or by an attempt before: sees that it is protected as is wanted. What is
   * protected for longer keeps that.
   * @throws Failure of the server's that refuses
   */
  confirm(path: string, protection: S3Protection): Promise<void>
}

const dayMs = 86_400_000
/** Servers keep whole seconds, or other pieces. */
const roundingMs = 1_000

export function createS3ObjectLock(bucket: S3Bucket, clock: Clock, retention: S3Retention | undefined): S3ObjectLock {
  let checked: Promise<void> | undefined
  return {
    async protectionFor(kind) {
      // A lock that cannot be given back would lock everybody out.
      if (retention === undefined || kind === 'lock') return undefined
      checked ??= checkBucket(bucket)
      await checked.catch((error: unknown) => {
        checked = undefined // the next upload asks again
        throw error
      })
      const until = new Date(clock.wallMs() + retention.days * dayMs)
      return { ObjectLockMode: retention.mode, ObjectLockRetainUntilDate: until }
    },
    async confirm(path, protection) {
      // Amazon documents that an upload in parts has what it was begun with.
      if (!bucket.isAmazon) await confirm(bucket, path, protection)
    },
  }
}

async function confirm(bucket: S3Bucket, path: string, wanted: S3Protection): Promise<void> {
  const { sdk } = bucket
  const target = { Bucket: bucket.bucket, Key: bucket.keyOf(path) }
  try {
    const head = new sdk.HeadObjectCommand(target)
    const found = await bucket.send((client, options) => client.send(head, options))
    const until = found.ObjectLockRetainUntilDate?.getTime() ?? 0
    const isEnough = until >= wanted.ObjectLockRetainUntilDate.getTime() - roundingMs
    if (found.ObjectLockMode === wanted.ObjectLockMode && isEnough) return
    const Retention = { Mode: wanted.ObjectLockMode, RetainUntilDate: wanted.ObjectLockRetainUntilDate }
    const { VersionId } = found
    const command = new sdk.PutObjectRetentionCommand({ ...target, Retention, ...(VersionId ? { VersionId } : {}) })
    await bucket.send((client, options) => client.send(command, options))
  } catch (error) {
    throw bucket.failure(error, { doing: 'protecting', path })
  }
}

async function checkBucket(bucket: S3Bucket): Promise<void> {
  const { sdk } = bucket
  const why = await bucket
    .send((client, options) =>
      client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket: bucket.bucket }), options),
    )
    .then(
      ({ ObjectLockConfiguration: found }) =>
        found?.ObjectLockEnabled === 'Enabled' ? undefined : 'it is not enabled',
      (error: unknown) => {
        const refusal = refusalOf(error)
        const isAnswer = refusal !== undefined && [400, 404, 405, 501].includes(refusal.status)
        if (isAnswer && refusal.code !== 'NoSuchBucket') return `the server answers ${refusal.status} ${refusal.code}`
        throw bucket.failure(error, { doing: 'looking for Object Lock at', path: '' })
      },
    )
  if (why === undefined) return
  throw new Failure({
    code: 'options_invalid',
    message: `the bucket ${bucket.bucket} has no Object Lock, so that nothing in it can be protected: ${why}`,
    hint: 'Make a bucket with Object Lock, on a server that has it; or leave the protection away.',
  })
}
