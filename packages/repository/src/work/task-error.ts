/** Owns errors on their way from one thread to another: they arrive as the class that they were thrown as. */
import { describeFailure, Failure, type FailureReport, failureFrom } from '@stillpoint/core/kernel'
import { errnoOf } from '../blob/storage-failure.ts'
import { DamageError } from '../format/damage.ts'

export type TaskError =
  | { readonly kind: 'damage'; readonly message: string }
  | { readonly kind: 'failure'; readonly report: FailureReport }
  | { readonly kind: 'system'; readonly message: string; readonly code: string }
  | { readonly kind: 'other'; readonly message: string; readonly stack: string | undefined }

export function encodeTaskError(error: unknown): TaskError {
  if (error instanceof DamageError) return { kind: 'damage', message: error.message }
  if (error instanceof Failure) return { kind: 'failure', report: describeFailure(error) }
  if (!(error instanceof Error)) return { kind: 'other', message: String(error), stack: undefined }
  const code = errnoOf(error)
  if (code !== undefined) return { kind: 'system', message: error.message, code }
  return { kind: 'other', message: error.message, stack: error.stack }
}

export function decodeTaskError(error: TaskError): Error {
  switch (error.kind) {
    case 'damage':
      return new DamageError(error.message)
    case 'failure':
      return failureFrom(error.report)
    case 'system':
      return Object.assign(new Error(error.message), { code: error.code })
    case 'other': {
      const made = new Error(error.message)
      if (error.stack !== undefined) made.stack = error.stack
      return made
    }
  }
}
