/**
 * The API's requests and answers as zod schemas: what the server checks, what the client checks, and what
 * `/v1/openapi.json` is made of. The types are those of coordinator/operations.ts; the annotations hold them equal.
 *
 * Requests are strict: an unknown key is a mistake. Answers are loose: a newer server may say more.
 */
import type { Certificate } from '@stillpoint/core'
import type { FailureReport } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type {
  DiffResult,
  OperationEvent,
  RestoreRequest,
  RestoreResult,
  SnapshotDetail,
  SnapshotSummary,
  SystemStatus,
  TakeRequest,
  VerifyResult,
} from '../coordinator/operations.ts'

const bytes = z.number().nonnegative().describe('Bytes')
const count = z.int().nonnegative()
const texts = z.array(z.string())

export const failureSchema: z.ZodType<FailureReport> = z.looseObject({
  code: z.string().describe('Stable; docs/errors.md'),
  message: z.string(),
  hint: z.string().exactOptional(),
  retry: z.enum(['never', 'later']).describe('later: the same request may succeed without anybody changing anything'),
})

/** Ids, abbreviations of ids, and words like `latest`: which of them exist is for the operations to say. */
export const snapshotIdSchema = z
  .string()
  .regex(/^[0-9a-z][0-9a-z-]{0,63}$/, { error: 'must be the id of a snapshot, or its beginning' })

const tag = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[^\p{Cc},]+$/u, { error: 'must not contain commas or control characters' })

export const takeRequestSchema: z.ZodType<TakeRequest> = z.strictObject({
  allowInconsistent: z.boolean().default(false).describe('Seal even when the verdict is `inconsistent`'),
  tags: z.array(tag).max(100).default([]),
})

export const restoreRequestSchema: z.ZodType<RestoreRequest> = z.strictObject({
  snapshot: snapshotIdSchema,
  participants: z.array(z.string().min(1).max(64)).max(10_000).default([]).describe('Only these; empty: all'),
  replace: z.boolean().default(false).describe('Replace targets that are not empty'),
  toConfig: z
    .string()
    .max(4_096)
    .regex(/^\/[^\0]*$/, { error: "must be an absolute path on the server's machine" })
    .nullable()
    .default(null)
    .describe('Another stillpoint.yaml whose participants are the targets. Only from the machine of the server.'),
})

const verdictKind = z.enum(['consistent', 'crash-consistent', 'inconsistent'])

const summaryShape = {
  id: z.string(),
  system: z.string(),
  cut: z.string(),
  epoch: count,
  generation: count,
  time: z.string().describe('ISO 8601, UTC'),
  verdict: verdictKind,
  participants: count,
  bytes,
  inFlight: count,
  pauseMs: z.number().nonnegative(),
}

export const snapshotSummarySchema: z.ZodType<SnapshotSummary> = z.looseObject(summaryShape)
export const snapshotListSchema: z.ZodType<readonly SnapshotSummary[]> = z.array(snapshotSummarySchema)

const certificateShape = z.looseObject({ version: z.literal(1), plan: z.looseObject({}), planDigest: z.string() })
const certificateSchema = z
  .custom<Certificate>((value) => certificateShape.safeParse(value).success, { error: 'must be a certificate' })
  .meta({ type: 'object', description: 'The evidence of the cut; docs/certificate.md' })

export const snapshotDetailSchema: z.ZodType<SnapshotDetail> = z.looseObject({
  ...summaryShape,
  verdictReasons: texts,
  participantDetails: z.array(
    z.looseObject({
      name: z.string(),
      kind: z.enum(['store', 'process']),
      source: z.string(),
      grade: z.string(),
      tree: z.string(),
      bytes,
      files: count,
      heldMs: z.number().nullable(),
      position: z.record(z.string(), z.union([z.string(), z.number()])),
      caveats: texts,
      notes: texts,
    }),
  ),
  channels: z.array(
    z.looseObject({ channel: z.string(), sent: count, received: count, inFlight: count, missing: count }),
  ),
  certificate: certificateSchema,
})

const checks = z.array(z.looseObject({ name: z.string(), passed: z.boolean(), detail: z.string() }))

export const verifyResultSchema: z.ZodType<VerifyResult> = z.looseObject({
  id: z.string(),
  passed: z.boolean(),
  verdict: verdictKind,
  checks,
  bytesRead: bytes,
})

export const diffResultSchema: z.ZodType<DiffResult> = z.looseObject({
  from: z.string(),
  to: z.string(),
  participants: z.array(
    z.looseObject({
      name: z.string(),
      change: z.enum(['added', 'removed', 'changed', 'same']),
      bytesBefore: bytes,
      bytesAfter: bytes,
      entries: z.array(
        z.looseObject({
          path: z.string(),
          change: z.enum(['added', 'removed', 'changed']),
          bytesBefore: bytes,
          bytesAfter: bytes,
        }),
      ),
    }),
  ),
})

export const restoreResultSchema: z.ZodType<RestoreResult> = z.looseObject({
  id: z.string(),
  restore: z.string(),
  generation: count,
  participants: z.array(
    z.looseObject({
      name: z.string(),
      outcome: z.enum(['restored', 'waiting']),
      bytes,
      checks,
      notes: texts,
    }),
  ),
  damage: texts,
})

export const removeResultSchema = z.looseObject({ id: z.string() })

export const systemStatusSchema: z.ZodType<SystemStatus> = z.looseObject({
  system: z.string(),
  generation: count,
  epoch: count,
  participants: z.array(
    z.looseObject({
      name: z.string(),
      kind: z.enum(['store', 'process']),
      source: z.string(),
      state: z.enum(['configured', 'connected', 'absent', 'restoring']),
    }),
  ),
})

const phase = z.enum([
  ...(['plan', 'prepare', 'quiesce', 'mark', 'resume', 'drain', 'capture', 'seal', 'release'] as const),
  ...(['check', 'restore', 'verify', 'switch'] as const),
])

export const operationEventSchema: z.ZodType<OperationEvent> = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('phase'), phase, attempt: count }),
  z.looseObject({
    type: z.literal('progress'),
    participant: z.string(),
    bytes,
    bytesTotal: bytes.nullable(),
    files: count,
  }),
  z.looseObject({ type: z.literal('note'), participant: z.string().nullable(), text: z.string() }),
  z.looseObject({
    type: z.literal('retry'),
    attempt: count,
    delayMs: z.number().nonnegative(),
    failure: failureSchema,
  }),
])

/** One line of an answer of type `application/x-ndjson`; one event of an answer of type `text/event-stream`. */
export type OperationLine =
  | { readonly type: 'event'; readonly event: OperationEvent }
  /** Nothing has happened; the operation goes on. At least every 5 seconds, where nothing else comes. */
  | { readonly type: 'alive' }
  /** The last line: how the operation ended. */
  | { readonly type: 'result'; readonly result: unknown }
  | { readonly type: 'failure'; readonly failure: FailureReport }

const operationLines = [
  z.looseObject({ type: z.literal('event'), event: operationEventSchema }),
  z.looseObject({ type: z.literal('alive') }),
  z.looseObject({ type: z.literal('result'), result: z.unknown() }),
  z.looseObject({ type: z.literal('failure'), failure: failureSchema }),
] as const
export const operationLineSchema: z.ZodType<OperationLine> = z.discriminatedUnion('type', operationLines)
