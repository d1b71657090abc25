/**
 * Owns the translation of what S3 servers and the way to them answer into `Failure`s with a way out. Servers differ in
 * words and statuses: a code that is known decides, then the status.
 *
 * Invariant: no failure carries the SDK's error or response, for they hold the request with its signature and token.
 */
import { Failure, type FailureOptions } from '@stillpoint/core/kernel'
import { connectionFailure } from './rest-http.ts'

export interface S3Doing {
  /** For messages: `reading`, `listing`. */
  readonly doing: string
  /** For messages: the address of an object, a folder or the bucket. */
  readonly where: string
}

/** What a server refuses with: its code, such as `NoSuchKey`, its status and its words. */
export interface S3Refusal {
  readonly code: string
  readonly status: number
  readonly said: string
}

/** Undefined where no server has answered. */
export function refusalOf(error: unknown): S3Refusal | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined
  const { $metadata: metadata } = error
  if (typeof metadata !== 'object' || metadata === null || !('httpStatusCode' in metadata)) return undefined
  const { httpStatusCode: status } = metadata
  if (typeof status !== 'number') return undefined
  return { code: error.name, status, said: error.message.replace(/\p{Cc}/gu, ' ').slice(0, 500) }
}

type Known = Pick<FailureOptions, 'code' | 'hint' | 'retry'>

const denied = (hint: string): Known => ({ code: 'storage_denied', hint })
const later: Known = { code: 'storage_failed', retry: 'later' }
const credentialsHint =
  'Check the access key and its secret: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile, or the credentials file.'
const roomHint = 'Make room there, or raise the quota; what is stored already is kept.'

const knownCodes: Readonly<Record<string, Known>> = {
  InvalidAccessKeyId: denied(credentialsHint),
  SignatureDoesNotMatch: denied(credentialsHint),
  InvalidToken: denied(credentialsHint),
  // The next request may come with a fresh one.
  ExpiredToken: { ...denied('The session has ended: sign in again.'), retry: 'later' },
  // The SDK has learnt the server's time from the answer, and signs the next request with it.
  RequestTimeTooSkewed: { ...denied('Set the clock of this machine: it differs from the server’s.'), retry: 'later' },
  InvalidObjectState: {
    code: 'storage_failed',
    hint: 'The object has been moved to an archive class: bring it back there first.',
  },
  NoSuchBucket: { code: 'storage_failed', hint: 'Correct the name of the bucket, or make the repository there first.' },
  // The bytes that arrived are not those that were signed.
  BadDigest: later,
  XAmzContentSHA256Mismatch: later,
  IncompleteBody: later,
  RequestTimeout: later,
  SlowDown: later,
  Throttling: later,
  ThrottlingException: later,
  TooManyRequests: later,
  ServiceUnavailable: later,
  OperationAborted: later,
  ConditionalRequestConflict: later,
  InternalError: later,
  QuotaExceeded: { code: 'no_space', hint: roomHint, retry: 'later' },
  XMinioStorageFull: { code: 'no_space', hint: roomHint, retry: 'later' },
}

function knownByStatus(status: number): Known {
  if (status === 401 || status === 403)
    return denied('This user may not do that there: see the policies of user and bucket.')
  if (status === 507) return { code: 'no_space', hint: roomHint, retry: 'later' }
  const mayPass = status >= 500 ? status !== 501 : [408, 409, 425, 429].includes(status)
  if (mayPass) return later
  return { code: 'storage_failed', hint: 'Check the location of the repository, and the log of the server.' }
}

/** What an error of the SDK means. A `Failure` is passed through. */
export function s3Failure(error: unknown, { doing, where }: S3Doing): Failure {
  if (error instanceof Failure) return error
  const refusal = refusalOf(error)
  if (refusal !== undefined) return refusedFailure(refusal, { doing, where })
  const { name, message } = error instanceof Error ? error : { name: '', message: String(error) }
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError') {
    return new Failure({
      code: 'storage_denied',
      message: `${doing} ${where}: there are no credentials: ${message}`,
      hint: 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, write them to ~/.aws/credentials, or name a credentials file.',
    })
  }
  return connectionFailure(withoutRequest(error), doing, where)
}

function refusedFailure({ code, status, said }: S3Refusal, { doing, where }: S3Doing): Failure {
  const known = knownCodes[code] ?? knownByStatus(status)
  const words = said === '' || said === code || said === 'UnknownError' ? code : `${code}: ${said}`
  return new Failure({ ...known, message: `${doing} ${where}: the server answers ${status} ${words}` })
}

/** The invariant: the words and the `errno` of an error, and nothing else of it. */
function withoutRequest(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error))
  const plain = new Error(error.message === '' ? error.name : error.message)
  return Object.assign(plain, 'code' in error && typeof error.code === 'string' ? { code: error.code } : {})
}
