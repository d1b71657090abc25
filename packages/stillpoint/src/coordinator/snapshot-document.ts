/**
 * `stillpoint.json`, at the root of a snapshot: what there is in it, for lists and for people.
 *
 * Owns: its shape (docs/format/snapshot.md), writing it, and reading it as input from outside. Does not own: the
 * evidence (certificate.json); what is said here and can be computed from there is computed again by verify.ts.
 */
import { createHash } from 'node:crypto'
import type { Certificate, CoordinatorState, Plan, Verdict } from '@stillpoint/core'
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import { planSchema } from './certificate-schema.ts'
import type { ParticipantSummary, SnapshotDetail, SnapshotSummary } from './operations.ts'
import { gradeOf, heldMsOf, inFlightOf, longestHoldMs } from './summary.ts'

export const snapshotFormat = 1

export interface SnapshotDocument {
  readonly format: typeof snapshotFormat
  readonly system: string
  readonly cut: string
  readonly generation: number
  readonly epoch: number
  /** ISO 8601, UTC: when the last mark was taken, by the coordinator's clock. */
  readonly time: string
  readonly verdict: { readonly kind: Verdict['kind']; readonly reasons: readonly string[] }
  readonly pauseMs: number
  readonly inFlight: number
  readonly bytes: number
  readonly participants: readonly ParticipantSummary[]
  readonly plan: Plan
  /** SHA-256 over the bytes of `certificate.json`, hexadecimal. */
  readonly certificateSha256: string
}

export interface DocumentRequest {
  readonly certificate: Certificate
  readonly verdict: Verdict
  readonly tracks: CoordinatorState['tracks']
  readonly markedAtMs: number
}

/** Both documents as bytes, each ended by a newline. */
export function writeDocuments(request: DocumentRequest): { readonly summary: Buffer; readonly certificate: Buffer } {
  const certificate = Buffer.from(`${JSON.stringify(request.certificate, undefined, 2)}\n`)
  const document = snapshotDocument(request, sha256(certificate))
  return { summary: Buffer.from(`${JSON.stringify(document, undefined, 2)}\n`), certificate }
}

function snapshotDocument(
  { certificate, verdict, tracks, markedAtMs }: DocumentRequest,
  certificateSha256: string,
): SnapshotDocument {
  const { plan } = certificate
  const participants = plan.participants.map((planned): ParticipantSummary => {
    const captured = tracks.get(planned.name)?.captured
    const store = certificate.stores[planned.name]
    const evidence = store ?? certificate.processes[planned.name]
    return {
      name: planned.name,
      kind: planned.kind,
      source: planned.kind === 'store' ? planned.source : 'sdk',
      grade: gradeOf(planned),
      tree: certificate.trees[planned.name] ?? '',
      bytes: captured?.bytes ?? 0,
      files: captured?.files ?? 0,
      heldMs: heldMsOf(evidence?.hold),
      position: store?.mark.position ?? {},
      caveats: store?.mark.caveats ?? [],
      notes: captured?.notes ?? [],
    }
  })
  return {
    format: snapshotFormat,
    system: plan.system,
    cut: plan.cut,
    generation: plan.generation,
    epoch: plan.epoch,
    time: new Date(markedAtMs).toISOString(),
    verdict: { kind: verdict.kind, reasons: verdict.reasons },
    pauseMs: longestHoldMs(certificate),
    inFlight: inFlightOf(certificate),
    bytes: participants.reduce((sum, { bytes }) => sum + bytes, 0),
    participants,
    plan,
    certificateSha256,
  }
}

const count = z.int().min(0)
const participantSchema = z.object({
  name: z.string(),
  kind: z.enum(['store', 'process']),
  source: z.string(),
  grade: z.string(),
  tree: z.string(),
  bytes: count,
  files: count,
  heldMs: z.number().min(0).nullable(),
  position: z.record(z.string(), z.union([z.string(), z.number()])),
  caveats: z.array(z.string()).readonly(),
  notes: z.array(z.string()).readonly(),
}) satisfies z.ZodType<ParticipantSummary>

/** Fields that are added later do not make it unreadable; its format's number would change if they had to. */
const documentSchema = z.object({
  format: z.literal(snapshotFormat),
  system: z.string(),
  cut: z.string(),
  generation: count,
  epoch: count,
  time: z.iso.datetime(),
  verdict: z.object({
    kind: z.enum(['consistent', 'crash-consistent', 'inconsistent']),
    reasons: z.array(z.string()).readonly(),
  }),
  pauseMs: z.number().min(0),
  inFlight: count,
  bytes: count,
  participants: z.array(participantSchema).readonly(),
  plan: planSchema,
  certificateSha256: z.string(),
}) satisfies z.ZodType<SnapshotDocument>

/** @throws Failure `snapshot_document_invalid` naming the field */
export function parseDocument(bytes: Uint8Array): SnapshotDocument {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw invalid('it is not JSON in UTF-8', cause)
  }
  const parsed = documentSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw invalid(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}`)
}

function invalid(what: string, cause?: unknown): Failure {
  return new Failure({
    code: 'snapshot_document_invalid',
    message: `The stillpoint.json of the snapshot cannot be read: ${what}`,
    hint: 'It was written by a newer version, or has been changed. Its files can be restored with restic.',
    cause,
  })
}

export function summaryOf(id: string, document: SnapshotDocument): SnapshotSummary {
  const { system, cut, epoch, generation, time, verdict, participants, bytes, inFlight, pauseMs } = document
  return {
    id,
    system,
    cut,
    epoch,
    generation,
    time,
    verdict: verdict.kind,
    participants: participants.length,
    bytes,
    inFlight,
    pauseMs,
  }
}

/** What is listed of a snapshot, of what is shown of it. */
export function summaryOfDetail(detail: SnapshotDetail): SnapshotSummary {
  const { verdictReasons, participantDetails, channels, certificate, ...summary } = detail
  return summary
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
