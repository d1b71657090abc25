/**
 * The operations as HTTP: which method and path is which operation, with which input and answer.
 *
 * Owns: the table, from which both the routes and `/v1/openapi.json` are made, so that they cannot differ.
 * Does not own: how an operation is run and answered (operation-answer.ts).
 */
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { OperationContext, Operations } from '../coordinator/operations.ts'
import {
  diffResultSchema,
  removeResultSchema,
  restoreRequestSchema,
  restoreResultSchema,
  snapshotDetailSchema,
  snapshotIdSchema,
  snapshotListSchema,
  systemStatusSchema,
  takeRequestSchema,
  verifyResultSchema,
} from './api-schema.ts'
import type { OperationKind } from './live-events.ts'

export interface ApiCall {
  readonly params: unknown
  readonly body: unknown
  /** Whether the request came from the server's own machine. */
  readonly isLocal: boolean
}

export interface ApiRoute {
  readonly kind: OperationKind
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** In Fastify's form: `/v1/snapshots/:id`. */
  readonly path: string
  readonly summary: string
  readonly params: z.ZodType | null
  readonly body: z.ZodType | null
  readonly answer: z.ZodType
  /** Checks the input and says what to run. @throws Failure `request_invalid` */
  readonly prepare: (call: ApiCall) => (operations: Operations, context: OperationContext) => Promise<unknown>
}

const oneSnapshot = z.object({ id: snapshotIdSchema })
const twoSnapshots = z.object({ from: snapshotIdSchema, to: snapshotIdSchema })

export const apiRoutes: readonly ApiRoute[] = [
  {
    kind: 'status',
    method: 'GET',
    path: '/v1/status',
    summary: 'The system, its participants and who of them is there',
    params: null,
    body: null,
    answer: systemStatusSchema,
    prepare: () => (operations, context) => operations.status(context),
  },
  {
    kind: 'take',
    method: 'POST',
    path: '/v1/snapshots',
    summary: 'Take a snapshot. Closing the request cancels it and releases every hold.',
    params: null,
    body: takeRequestSchema,
    answer: snapshotDetailSchema,
    prepare({ body }) {
      const request = checked(takeRequestSchema, body ?? {}, 'the body')
      return (operations, context) => operations.take(request, context)
    },
  },
  {
    kind: 'list',
    method: 'GET',
    path: '/v1/snapshots',
    summary: 'The snapshots of the system',
    params: null,
    body: null,
    answer: snapshotListSchema,
    prepare: () => (operations, context) => operations.list(context),
  },
  {
    kind: 'show',
    method: 'GET',
    path: '/v1/snapshots/:id',
    summary: 'One snapshot with its participants, channels, verdict and certificate',
    params: oneSnapshot,
    body: null,
    answer: snapshotDetailSchema,
    prepare({ params }) {
      const { id } = checked(oneSnapshot, params, 'the path')
      return (operations, context) => operations.show(id, context)
    },
  },
  {
    kind: 'verify',
    method: 'POST',
    path: '/v1/snapshots/:id/verify',
    summary: 'Recompute the verdict from the certificate and read all data',
    params: oneSnapshot,
    body: null,
    answer: verifyResultSchema,
    prepare({ params }) {
      const { id } = checked(oneSnapshot, params, 'the path')
      return (operations, context) => operations.verify(id, context)
    },
  },
  {
    kind: 'diff',
    method: 'GET',
    path: '/v1/snapshots/:from/diff/:to',
    summary: 'What changed from one snapshot to another',
    params: twoSnapshots,
    body: null,
    answer: diffResultSchema,
    prepare({ params }) {
      const { from, to } = checked(twoSnapshots, params, 'the path')
      return (operations, context) => operations.diff(from, to, context)
    },
  },
  {
    kind: 'restore',
    method: 'POST',
    path: '/v1/restores',
    summary: 'Restore a snapshot. Closing the request cancels it, as far as it can be cancelled.',
    params: null,
    body: restoreRequestSchema,
    answer: restoreResultSchema,
    prepare({ body, isLocal }) {
      const request = checked(restoreRequestSchema, body, 'the body')
      if (request.toConfig !== null && !isLocal) throw restoreRemote()
      return (operations, context) => operations.restore(request, context)
    },
  },
  {
    kind: 'remove',
    method: 'DELETE',
    path: '/v1/snapshots/:id',
    summary: 'Delete a snapshot',
    params: oneSnapshot,
    body: null,
    answer: removeResultSchema,
    prepare({ params }) {
      const { id } = checked(oneSnapshot, params, 'the path')
      return (operations, context) => operations.remove(id, context)
    },
  },
]

/** A configuration names commands to run: only who is on this machine may choose one of its files. */
function restoreRemote(): Failure {
  return new Failure({
    code: 'restore_remote',
    message: 'A restore into the targets of another configuration was asked for from another machine',
    hint: 'Run "stillpoint restore --to" on the machine of the server.',
  })
}

/** @throws Failure `request_invalid` naming the place and what is wrong there */
export function checked<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value === undefined ? null : value)
  if (result.success) return result.data
  const issues = result.error.issues.slice(0, 5).map((issue) => {
    const place = issue.path.map(String).join('.').slice(0, 100)
    return place === '' ? issue.message : `${place}: ${issue.message}`
  })
  throw new Failure({
    code: 'request_invalid',
    message: `In ${what}: ${issues.join('; ').slice(0, 1_000)}`,
    hint: 'GET /v1/openapi.json says what is expected.',
  })
}
