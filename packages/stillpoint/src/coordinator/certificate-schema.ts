/**
 * Reading a certificate that comes from a repository: input from outside, checked field by field before the verdict is
 * computed from it.
 *
 * Owns: the stored shape, version 1 (docs/certificate.md). Its type is core's `Certificate`: the compiler holds the two
 * together, in both directions.
 */
import { type Certificate, cutOffReasons, type Plan } from '@stillpoint/core'
import {
  type ChannelId,
  type CutId,
  channelEnds,
  Failure,
  type Incarnation,
  type MessageId,
  type ParticipantName,
  participantName,
  type SessionId,
  type TreeId,
} from '@stillpoint/core/kernel'
import { z } from 'zod'

/** Ids that we made: short, and never a path or a control character. */
const idText = z
  .string()
  .min(1)
  .max(256)
  .regex(/^[^\p{Cc}]+$/u)

/** The text, if `check` does not refuse it. */
function branded<T extends string>(base: z.ZodType<string>, check: (text: string) => unknown = () => undefined) {
  return base.transform((text, context): T => {
    try {
      check(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) })
      return z.NEVER
    }
    return text as T
  })
}

const name = branded<ParticipantName>(z.string(), participantName)
const channel = branded<ChannelId>(idText, (text) => channelEnds(text as ChannelId))
const cut = branded<CutId>(idText)
const incarnation = branded<Incarnation>(idText)
const session = branded<SessionId>(idText)
const message = branded<MessageId>(idText)
const tree = branded<TreeId>(z.string().regex(/^[0-9a-f]{64}$/))
const count = z.int().min(0)
const ms = z.number().min(0)
const grade = z.enum(['owned', 'gated', 'quiesced'])
const names = z.array(name).readonly()
const numbers = z.array(count).readonly()

const deadlines = z.strictObject({
  prepareMs: ms,
  quiesceMs: ms,
  markMs: ms,
  resumeMs: ms,
  drainMs: ms,
  captureMs: ms,
  leaseMs: ms,
  handlerMs: ms,
})

const participantPlan = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('process'), name, incarnation, gated: z.boolean(), owns: names }),
  z.strictObject({
    kind: z.literal('store'),
    name,
    source: z.string(),
    grade,
    writers: z.union([names, z.literal('unknown')]),
  }),
])

export const planSchema = z.strictObject({
  version: z.literal(1),
  system: z.string(),
  cut,
  epoch: count,
  generation: count,
  fencing: count,
  participants: z.array(participantPlan).readonly(),
  deadlines,
  allowInconsistent: z.boolean(),
}) satisfies z.ZodType<Plan>

const hold = z.strictObject({
  unbroken: z.boolean().nullable(),
  hold: count,
  heldMs: ms,
  detail: z.string().exactOptional(),
})

const sentAtCut = z.strictObject({
  channel,
  session,
  sent: count,
  uncertain: numbers,
  fifo: z.boolean(),
  volatile: z.boolean(),
})

const receivedAtCut = z.strictObject({
  channel,
  session,
  received: z.strictObject({ upTo: count, beyond: numbers }),
  epochMax: count,
  heardWhileHeld: z.boolean().exactOptional(),
})

const openHandler = z.strictObject({
  startedBy: z.enum(['message', 'outsider', 'process']),
  message: message.exactOptional(),
  channel: channel.exactOptional(),
  transactional: z.boolean(),
  cutOffBy: z.enum(cutOffReasons),
})

const processMark = z.strictObject({
  kind: z.literal('process'),
  incarnation,
  epochEntered: count,
  enteredBy: z.enum(['order', 'message', 'marker']),
  enteredFrom: name.exactOptional(),
  sent: z.array(sentAtCut).readonly(),
  received: z.array(receivedAtCut).readonly(),
  openHandlers: z.array(openHandler).readonly(),
  uncolouredHandled: count,
  gateMs: ms,
})

const storeMark = z.strictObject({
  kind: z.literal('store'),
  incarnation,
  grade,
  position: z.record(z.string(), z.union([z.string(), z.number()])),
  caveats: z.array(z.string()).readonly(),
  heldAtMs: ms.nullable(),
  markedAtMs: ms,
})

const drained = z.strictObject({
  channel,
  session,
  recorded: z.array(z.strictObject({ seq: count, message })).readonly(),
  missing: numbers,
  endedBy: z.enum(['counts', 'marker', 'deadline']),
})

const step = z.discriminatedUnion('step', [
  z.strictObject({
    step: z.literal('held'),
    participant: name,
    stage: z.enum(['ingress', 'gate', 'store']),
    hold: count,
  }),
  z.strictObject({ step: z.literal('reopened'), participant: name, hold: count }),
  z.strictObject({ step: z.literal('markOrdered'), participant: name }),
  z.strictObject({ step: z.literal('marked'), participant: name }),
  z.strictObject({ step: z.literal('resumeOrdered'), participant: name }),
  z.strictObject({ step: z.literal('resumed'), participant: name }),
])

const certificateSchema = z.strictObject({
  version: z.literal(1),
  plan: planSchema,
  planDigest: z.string().regex(/^[0-9a-f]{64}$/),
  processes: z.record(
    z.string(),
    z.strictObject({ mark: processMark, hold, holdReliedOn: count, drained: z.array(drained).readonly() }),
  ),
  stores: z.record(
    z.string(),
    z.strictObject({ mark: storeMark, hold, holdReliedOn: count, torn: z.array(z.string()).readonly() }),
  ),
  steps: z.array(step).readonly(),
  trees: z.record(z.string(), tree),
  channelTrees: z.record(z.string(), tree),
  pauseMs: ms,
}) satisfies z.ZodType<Certificate>

/** @throws Failure `certificate_invalid` naming the field */
export function parseCertificate(bytes: Uint8Array): Certificate {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw invalid('it is not JSON in UTF-8', cause)
  }
  const parsed = certificateSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw invalid(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}`)
}

function invalid(what: string, cause?: unknown): Failure {
  return new Failure({
    code: 'certificate_invalid',
    message: `The certificate of the snapshot cannot be read: ${what}`,
    hint: 'It was written by a newer version, or has been changed. Without it, nothing tells whether the cut was consistent.',
    cause,
  })
}
