/**
 * The one error class for "the world failed": a store is down, a disk is full, a file is damaged, an input is wrong.
 * `code` is stable and documented (docs/errors.md); `message` says what failed and where, `hint` what to do about it.
 */
export type Retry = 'never' | 'later'

export interface FailureOptions {
  readonly code: string
  readonly message: string
  /** The way out, as a sentence to the user. */
  readonly hint?: string
  /** `later`: the same call may succeed without anybody changing anything. Default: `never`. */
  readonly retry?: Retry
  readonly cause?: unknown
}

export class Failure extends Error {
  override readonly name = 'Failure'
  readonly code: string
  readonly hint: string | undefined
  readonly retry: Retry

  constructor(options: FailureOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = options.code
    this.hint = options.hint
    this.retry = options.retry ?? 'never'
  }
}

export function isFailure(error: unknown, code?: string): error is Failure {
  return error instanceof Failure && (code === undefined || error.code === code)
}

/** A failure as data: on the wire, in the log, in `--json`. */
export interface FailureReport {
  readonly code: string
  readonly message: string
  readonly hint?: string
  readonly retry: Retry
}

/** Any thrown value as data. What is not a `Failure` becomes code `unexpected`. */
export function describeFailure(error: unknown): FailureReport {
  if (error instanceof Failure) {
    const { code, message, hint, retry } = error
    return hint === undefined ? { code, message, retry } : { code, message, hint, retry }
  }
  const message = error instanceof Error ? error.message : String(error)
  return { code: 'unexpected', message, retry: 'never' }
}

export function failureFrom(report: FailureReport): Failure {
  return new Failure(report)
}
