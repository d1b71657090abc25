/** What a captured server held, as it told at the mark. Stored as `manifest.json`, beside `dump.rdb`. */
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Parts } from '../source.ts'

export const partNames = { rdb: 'dump.rdb', manifest: 'manifest.json' } as const
const manifestBytesMax = 1 << 20

export const manifest = z.object({
  version: z.literal(1),
  source: z.literal('redis'),
  product: z.string(),
  server: z.string(),
  rdbVersion: z.int(),
  /** Of each database, by the server's own count right before the fork: `db0`, `db1` … */
  databases: z.record(z.string().regex(/^db\d+$/), z.object({ keys: z.int(), expires: z.int() })),
  usedMemoryBytes: z.int(),
})
export type Manifest = z.output<typeof manifest>

/** How many databases a server must have for these. */
export function databasesNeeded(stored: Manifest): number {
  return Math.max(0, ...Object.keys(stored.databases).map((name) => Number(name.slice(2)))) + 1
}

/** @throws Failure `part_missing` | `part_damaged` */
export async function readManifest(parts: Parts, signal: AbortSignal): Promise<Manifest> {
  const damaged = (why: string) =>
    new Failure({
      code: 'part_damaged',
      message: `${partNames.manifest} of this snapshot cannot be used: ${why}`,
      hint: 'Was it stored by a newer version of stillpoint? Else check the repository.',
    })
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of parts.file(partNames.manifest, signal)) {
    bytes += chunk.length
    if (bytes > manifestBytesMax) throw damaged('it is too large')
    chunks.push(chunk)
  }
  let data: unknown
  try {
    data = JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    throw damaged('it is not JSON')
  }
  const parsed = manifest.safeParse(data)
  if (!parsed.success) throw damaged(z.prettifyError(parsed.error))
  return parsed.data
}
