/** Owns the translation of the operating system's errors into `Failure`s with a way out. */
import { Failure } from '@stillpoint/core/kernel'

/** The `errno` name of an error of the operating system, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/** `no_space`, `storage_denied` or `storage_failed`; a `Failure` is passed through. */
export function storageFailure(error: unknown, doing: string, path: string): Failure {
  if (error instanceof Failure) return error
  const errno = errnoOf(error)
  const what = `${doing} ${path}`
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    const limit = errno === 'EDQUOT' ? 'the disk quota is used up' : 'no space is left on the device'
    const hint =
      'Free space there, or use a repository on a larger device, and run it again; what is stored already is kept.'
    return new Failure({ code: 'no_space', message: `${what}: ${limit}`, hint, retry: 'later', cause: error })
  }
  if (errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS') {
    const reason = errno === 'EROFS' ? 'the file system is read-only' : 'permission denied'
    const hint = 'Run as a user who may do this, or change the permissions.'
    return new Failure({ code: 'storage_denied', message: `${what}: ${reason}`, hint, cause: error })
  }
  const reason = error instanceof Error ? error.message : String(error)
  return new Failure({ code: 'storage_failed', message: `${what}: ${reason}`, retry: 'later', cause: error })
}
