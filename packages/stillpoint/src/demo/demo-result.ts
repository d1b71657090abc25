/** What the demo found: printed by `stillpoint demo --json`, described in docs/schemas/demo.json. */
import { z } from 'zod'

const cents = z.int()

export const demoResultSchema = z.object({
  passed: z.boolean().describe('Every check held'),
  verdict: z.string().describe('Of the snapshot'),
  snapshot: z.string().describe('Its id, 64 hexadecimal digits'),
  pauseMs: z.number().describe('The longest time that one branch took no new work, milliseconds; the others went on'),
  inFlight: z.int().describe('Transfers in flight at the cut'),
  inFlightAmount: cents.describe('Their sum, in cents'),
  totalBefore: cents.describe('Cents that the bank opened with'),
  totalRestored: cents.describe('Cents in the restored ledgers and in flight'),
  totalAfter: cents.describe('Cents in the ledgers when all transfers had arrived'),
  transfers: z.int().describe('Transfers sent until the snapshot was sealed'),
  checks: z.array(z.object({ name: z.string(), passed: z.boolean(), detail: z.string() })).readonly(),
})

export type DemoResult = z.infer<typeof demoResultSchema>
export type DemoCheck = DemoResult['checks'][number]
