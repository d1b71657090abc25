/**
 * Reading snapshots of a system back from its repository.
 *
 * Owns: finding them among whatever else is there, and what is shown of them. Does not own: whether they are whole and
 * true; verify.ts does. Snapshots of other programs and systems are nobody's business here.
 */
import type { Certificate } from '@stillpoint/core'
import { describeFailure, Failure, isFailure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot } from '@stillpoint/repository'
import { z } from 'zod'
import { certificateFile, readDocument, summaryFile } from '../agent/snapshot-layout.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { parseCertificate } from './certificate-schema.ts'
import type { OperationContext, SnapshotDetail, SnapshotSummary } from './operations.ts'
import { snapshotTag, systemTag } from './seal.ts'
import { parseDocument, type SnapshotDocument, summaryOf } from './snapshot-document.ts'
import { channelSummaries } from './summary.ts'

/** More than any real document: a hostile one must not fill the memory. */
const documentBytesMax = 256 * 1024 * 1024

const tagsOf = (system: string) => [snapshotTag, systemTag(system)]

/** Oldest first. Damaged ones are said and left out. */
export function systemSnapshots(
  repository: Repository,
  system: string,
  { onEvent }: Pick<OperationContext, 'onEvent'>,
): Promise<readonly Snapshot[]> {
  return repository.snapshots({
    filter: { tags: tagsOf(system) },
    onDamaged: ({ message }) => onEvent({ type: 'note', participant: null, text: message }),
  })
}

/** @throws Failure `snapshot_absent`, `snapshot_ambiguous` */
export async function findSystemSnapshot(repository: Repository, system: string, id: string): Promise<Snapshot> {
  try {
    return await repository.findSnapshot(id, { tags: tagsOf(system) })
  } catch (error) {
    if (!isFailure(error, 'snapshot_absent')) throw error
    throw new Failure({
      code: 'snapshot_absent',
      message: `There is no snapshot ${JSON.stringify(id.slice(0, 80))} of the system "${system}" in the repository`,
      hint: 'List the snapshots to see which there are: stillpoint list',
      cause: error,
    })
  }
}

/** @throws Failure `snapshot_damaged`, `snapshot_document_invalid`, and those of the repository */
export async function readDocumentOf(repository: Repository, { tree }: Snapshot): Promise<SnapshotDocument> {
  return parseDocument(await readDocument(repository, tree, { path: summaryFile, bytesMax: documentBytesMax }))
}

/** @throws Failure `snapshot_damaged`, `certificate_invalid`, and those of the repository */
export async function readCertificateOf(
  repository: Repository,
  { tree }: Snapshot,
): Promise<{ readonly bytes: Buffer; readonly certificate: Certificate }> {
  const bytes = await readDocument(repository, tree, { path: certificateFile, bytesMax: documentBytesMax })
  return { bytes, certificate: parseCertificate(bytes) }
}

const cachedSchema = z.object({
  id: z.string(),
  system: z.string(),
  cut: z.string(),
  epoch: z.number(),
  generation: z.number(),
  time: z.string(),
  verdict: z.enum(['consistent', 'crash-consistent', 'inconsistent']),
  participants: z.number(),
  bytes: z.number(),
  inFlight: z.number(),
  pauseMs: z.number(),
}) satisfies z.ZodType<SnapshotSummary>

/** Oldest first. The repository says which there are; what is known of them may come from the catalog. */
export async function listSystemSnapshots(
  {
    repository,
    catalog,
    system,
  }: { readonly repository: Repository; readonly catalog: Catalog; readonly system: string },
  context: OperationContext,
): Promise<readonly SnapshotSummary[]> {
  const cached = await catalog.cachedSnapshots(system)
  const summaries: SnapshotSummary[] = []
  const snapshots = await systemSnapshots(repository, system, context)
  for (const snapshot of snapshots) {
    context.signal.throwIfAborted()
    const known = parseCached(cached.get(snapshot.id))
    if (known !== undefined) {
      summaries.push(known)
      continue
    }
    try {
      const summary = summaryOf(snapshot.id, await readDocumentOf(repository, snapshot))
      await catalog.cacheSnapshot(system, snapshot.id, JSON.stringify(summary))
      summaries.push(summary)
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      const text = `snapshot ${snapshot.id.slice(0, 8)} cannot be listed: ${describeFailure(error).message}`
      context.onEvent({ type: 'note', participant: null, text })
    }
  }
  const present = new Set<string>(snapshots.map(({ id }) => id))
  await catalog.dropCachedSnapshots(
    system,
    [...cached.keys()].filter((id) => !present.has(id)),
  )
  return summaries
}

/** What the cache holds may be of another version: then it is read anew. */
function parseCached(text: string | undefined): SnapshotSummary | undefined {
  if (text === undefined) return undefined
  return cachedSchema.safeParse(JSON.parse(text)).data
}

export async function snapshotDetail(repository: Repository, snapshot: Snapshot): Promise<SnapshotDetail> {
  const document = await readDocumentOf(repository, snapshot)
  const { certificate } = await readCertificateOf(repository, snapshot)
  return {
    ...summaryOf(snapshot.id, document),
    verdictReasons: document.verdict.reasons,
    participantDetails: document.participants,
    channels: channelSummaries(certificate),
    certificate,
  }
}
