/**
 * What the conformance suite needs of a store: a running instance that it may fill, read, kill and throw away.
 *
 * Owns: the interface between suite and store, and the few functions that tests and canaries share. Does not own: the
 * checks (conformance.ts), nor how a real server is started (packages/testbed).
 */
import type { CutId } from '@stillpoint/core/kernel'
import { Failure } from '@stillpoint/core/kernel'
import type { SourceSession, SourceTraits } from './source.ts'

/** One acknowledged write. Both times are this process's `performance.now()`, in milliseconds. */
export interface AcknowledgedWrite {
  readonly startedMs: number
  readonly acknowledgedMs: number
}

export interface Load {
  /** Every write that was acknowledged so far. A write that the store refused is tried again, and is not in it. */
  acknowledged(): readonly AcknowledgedWrite[]
  /** Ends the writers; answers when the last of them has ended. */
  stop(): Promise<{ readonly acknowledged: number }>
}

export interface EmptyTarget {
  readonly session: SourceSession
  digest(): Promise<string>
  close(): Promise<void>
}

export interface Workbench {
  /** A new session on the store, with an environment of its own. */
  open(): Promise<SourceSession>
  /** Adds so many new rows (keys, files). Answers once all are acknowledged; under a hold it waits, or tries again. */
  write(rows: number): Promise<void>
  /** At least two concurrent writers, over connections of their own, until stopped. */
  startLoad(): Promise<Load>
  /** Over all of the store's content; equal exactly for equal contents. It only reads: it answers during a hold. */
  digest(): Promise<string>
  /** Empties the store. */
  wipe(): Promise<void>
  /** A second, empty store to restore into. */
  openEmptyTarget(): Promise<EmptyTarget>
  /** The store is gone at once, as when it crashes. What was acknowledged is there again after `revive`. */
  kill(): Promise<void>
  revive(): Promise<void>
  /** Ends and removes everything. */
  stop(): Promise<void>
  /**
   * A command that writes to the store from a process of its own, and exits with 0 once that was acknowledged. With it
   * the suite freezes this process and sees whether the hold still ends at its lease.
   */
  readonly outsideWrite?: { readonly program: string; readonly parameters: readonly string[] }
}

/** What a store cannot show, said by the test that starts the suite, and compared with what the source says of itself. */
export interface ConformanceFeatures extends SourceTraits {
  /** The lease of the tests that let it end. Default 1000. */
  readonly leaseMs?: number
  /** How long anything that must happen may take. Default 10 000. */
  readonly patienceMs?: number
  /** Two captures of one mark are equal byte by byte, and not only in what they restore. Default true. */
  readonly stableBytes?: boolean
}

/** What the suite needs of a test framework. Vitest's functions fit, and so do those of `node:test`. */
export interface TestApi {
  describe(name: string, body: () => void): unknown
  test(name: string, body: () => Promise<void>, timeoutMs?: number): unknown
  afterAll(body: () => Promise<void>, timeoutMs?: number): unknown
}

export class ConformanceError extends Error {
  override readonly name = 'ConformanceError'
}

export function check(condition: boolean, broken: string): asserts condition {
  if (!condition) throw new ConformanceError(broken)
}

let cuts = 0
/** A cut that no session has seen. */
export function newCut(): CutId {
  cuts += 1
  return `conformance-${process.pid}-${cuts}` as CutId
}

export function sleep(ms: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, ms))
}

/** The promise's value; an error that names `what` when there is none in time. */
export async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ConformanceError(`${what}: no answer within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

export async function until(condition: () => boolean, ms: number, what: string): Promise<void> {
  const start = performance.now()
  while (!condition()) {
    check(performance.now() - start < ms, `${what}: not within ${ms} ms`)
    await sleep(5)
  }
}

/** The call must fail, with a named failure that says what to do. */
export async function mustFail(promise: Promise<unknown>, what: string, code?: string): Promise<Failure> {
  let error: unknown
  try {
    await promise
  } catch (thrown) {
    error = thrown
  }
  check(error !== undefined, `${what}: it succeeded`)
  return namedFailure(error, what, code)
}

/** @throws ConformanceError when the error is not a `Failure` with a code and a hint */
export function namedFailure(error: unknown, what: string, code?: string): Failure {
  if (error instanceof ConformanceError) throw error
  check(error instanceof Failure, `${what}: ${error instanceof Error ? error.stack : String(error)} is not a Failure`)
  check(/^[a-z][a-z0-9_]*$/.test(error.code) && error.code !== 'unexpected', `${what}: the code ${error.code}`)
  check(error.hint !== undefined, `${what}: the failure ${error.code} (${error.message}) has no hint`)
  check(code === undefined || error.code === code, `${what}: ${error.code} (${error.message}) instead of ${code}`)
  return error
}
