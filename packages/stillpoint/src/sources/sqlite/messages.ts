/**
 * What passes between the source and its child processes, one message each way per call.
 *
 * Owns: the shapes. The child's side imports nothing else of ours, so that it starts fast; the parent checks each answer.
 */
import { z } from 'zod'

export interface TargetFile {
  readonly path: string
  /** How long a lock is waited for. */
  readonly busyTimeoutMs: number
}

export type Ask =
  | ({ readonly op: 'open' } & TargetFile)
  | { readonly op: 'hold'; readonly leaseMs: number; readonly waitMs: number }
  | { readonly op: 'resume' }
  | { readonly op: 'mark'; readonly copyTo: string; readonly copyBytesMax: number }
  | { readonly op: 'copy'; readonly copyTo: string }
  | ({ readonly op: 'inspect' } & TargetFile)
  | { readonly op: 'check'; readonly path: string }
  | ({ readonly op: 'facts' } & TargetFile)
  | ({ readonly op: 'swap'; readonly from: string; readonly replace: boolean } & TargetFile)

export type Operation = Ask['op']

/** What is known of a database's content; stored as `manifest.json`, and compared after a restore. */
export const databaseFacts = z.object({
  pageBytes: z.number().int(),
  pages: z.number().int(),
  journal: z.string(),
  userVersion: z.number().int(),
  applicationId: z.number().int(),
  schemaSha256: z.string(),
  foreignKeyViolations: z.number().int(),
  tables: z.array(z.object({ name: z.string(), rows: z.number().int() })),
})
export type DatabaseFacts = z.infer<typeof databaseFacts>

export const answers = {
  open: z.object({ sqlite: z.string(), journal: z.string(), pageBytes: z.number(), pages: z.number() }),
  hold: z.object({ waitedMs: z.number() }),
  resume: z.object({ unbroken: z.boolean(), detail: z.string().optional() }),
  mark: z.object({ position: z.record(z.string(), z.union([z.string(), z.number()])), copied: z.boolean() }),
  copy: z.object({ facts: databaseFacts }),
  inspect: z.object({ state: z.enum(['absent', 'empty', 'content', 'damaged']), usedBy: z.array(z.string()) }),
  check: z.object({ problems: z.array(z.string()) }),
  facts: z.object({ facts: databaseFacts, problems: z.array(z.string()) }),
  swap: z.object({ replaced: z.enum(['nothing', 'database', 'damaged']) }),
} as const satisfies Record<Operation, z.ZodType>

export type Answer<O extends Operation> = z.infer<(typeof answers)[O]>
export type AskOf<O extends Operation> = Extract<Ask, { op: O }>

/** A failure as the child sends it. */
export const childFailure = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
  retry: z.enum(['never', 'later']),
})

export const childReply = z.union([
  z.object({ answer: z.unknown() }).refine((reply) => reply.answer !== undefined),
  z.object({ failure: childFailure }),
])
