/**
 * What `--json` prints, per command: the schemas that docs/schemas/ is generated from.
 *
 * Fields are added, never changed or removed.
 */
import { z } from 'zod'
import { demoResultSchema } from '../demo/demo-result.ts'
import {
  diffResultSchema,
  failureSchema,
  removeResultSchema,
  restoreResultSchema,
  snapshotDetailSchema,
  snapshotListSchema,
  verifyResultSchema,
} from '../server/api-schema.ts'
import { doctorResultSchema } from './doctor-checks.ts'
import { initResultSchema } from './init.ts'
import { upResultSchema } from './up.ts'
import { vaultServeResultSchema } from './vault.ts'
import { vaultTokenSchema, vaultUserListSchema, vaultUserSchema } from './vault-users.ts'

/** On stderr, as the last line, when a command with `--json` fails. */
export const errorSchema = z.looseObject({ error: failureSchema, exitCode: z.int() })

export const resultSchemas: ReadonlyMap<string, z.ZodType> = new Map<string, z.ZodType>([
  ['demo', demoResultSchema],
  ['init', initResultSchema],
  ['up', upResultSchema],
  ['take', snapshotDetailSchema],
  ['list', z.looseObject({ snapshots: snapshotListSchema })],
  ['show', snapshotDetailSchema],
  ['verify', verifyResultSchema],
  ['diff', diffResultSchema],
  ['restore', restoreResultSchema],
  ['delete', removeResultSchema],
  ['doctor', doctorResultSchema],
  ['vault serve', vaultServeResultSchema],
  ['vault user add', vaultUserSchema],
  ['vault user remove', vaultUserListSchema],
  ['vault user list', vaultUserListSchema],
  ['vault token add', vaultTokenSchema],
  ['vault token remove', vaultUserListSchema],
  ['error', errorSchema],
])
