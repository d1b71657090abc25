/**
 * Seals a cut: writes its documents and its root tree, and last the snapshot, by which it exists (C6).
 *
 * Owns: the root tree's composition, and the last checks before it. Does not own: what the participants captured, nor
 * the decision to seal, which is the coordinator's.
 *
 * Invariants:
 * - The verdict is recomputed here from the evidence that is stored; an inconsistent one is refused unless the plan
 *   allows it.
 * - Each recorded message of the evidence is in a stored channel state, and no other.
 * - Data, indexes, trees, snapshot, in this order, under one lock: no prune comes between.
 */
import { hostname, userInfo } from 'node:os'
import { verdictOf } from '@stillpoint/core'
import { Failure } from '@stillpoint/core/kernel'
import { type Repository, type Save, type TreeEntry, type TreeId, timestampFromMs } from '@stillpoint/repository'
import type { CutUploads } from '../agent/process-captures.ts'
import { certificateFile, channelsDir, participantsDir, summaryFile } from '../agent/snapshot-layout.ts'
import { type DocumentRequest, writeDocuments } from './snapshot-document.ts'
import { channelDifference, channelSummaries, recordedOn } from './summary.ts'

export interface SealOptions extends DocumentRequest {
  readonly repository: Repository
  readonly save: Save
  readonly uploads: CutUploads
  readonly tags: readonly string[]
}

export const snapshotTag = 'stillpoint'
export const systemTag = (system: string) => `system=${system}`
/** By it a coordinator that starts again finds out whether the cut was sealed. */
export const cutTag = (cut: string) => `cut=${cut}`

/**
 * The id of the snapshot.
 * @throws Failure `cut_inconsistent`, `channel_state_incomplete`, and those of the repository
 */
export async function sealCut(options: SealOptions): Promise<string> {
  const { repository, save, certificate, markedAtMs } = options
  const { plan } = certificate
  checkVerdict(options)
  checkChannels(options)
  return repository.withLock('shared', async () => {
    const tree = await saveRoot(options)
    await save.finish()
    return repository.seal({
      time: timestampFromMs(markedAtMs),
      tree,
      paths: [`/${snapshotTag}/${plan.system}`],
      hostname: hostname(),
      username: userInfo().username,
      tags: [snapshotTag, systemTag(plan.system), cutTag(plan.cut), ...options.tags],
    })
  })
}

function checkVerdict({ certificate, verdict }: SealOptions): void {
  const recomputed = verdictOf(certificate)
  if (recomputed.kind === verdict.kind && (verdict.kind !== 'inconsistent' || certificate.plan.allowInconsistent)) {
    return
  }
  throw new Failure({
    code: 'cut_inconsistent',
    message: `The cut is ${recomputed.kind}: ${recomputed.reasons.join('; ')}`,
    hint: 'Nothing was stored. Use --allow-inconsistent to keep such a snapshot all the same.',
    retry: 'later',
  })
}

function checkChannels({ certificate, uploads }: SealOptions): void {
  const channels = new Set([
    ...channelSummaries(certificate).map(({ channel }) => channel),
    ...Object.keys(certificate.channelTrees),
  ])
  const uploaded = uploads.channels()
  for (const channel of channels) {
    const stored = uploaded.get(channel) ?? new Map<string, string>()
    const difference = channelDifference(recordedOn(certificate, channel), stored)
    if (difference === undefined) continue
    throw new Failure({
      code: 'channel_state_incomplete',
      message: `The state of the channel ${channel} is not what its receiver recorded: ${difference}`,
      hint: 'Nothing was stored. The next attempt records it anew.',
      retry: 'later',
    })
  }
}

async function saveRoot(options: SealOptions): Promise<TreeId> {
  const { save, certificate, markedAtMs } = options
  const mtime = timestampFromMs(markedAtMs)
  const documents = writeDocuments(options)
  const file = async (name: string, bytes: Uint8Array): Promise<TreeEntry> => {
    const { content } = await save.saveBytes(bytes)
    return { name, type: 'file', bytes: bytes.length, content, mtime, permissions: 0o600 }
  }
  const directory = async (name: string, trees: Readonly<Record<string, TreeId>>): Promise<TreeEntry> => {
    const entries = Object.entries(trees).map(
      ([child, subtree]): TreeEntry => ({ name: child, type: 'dir', subtree, mtime, permissions: 0o700 }),
    )
    return { name, type: 'dir', subtree: await save.saveTree(entries), mtime, permissions: 0o700 }
  }
  return save.saveTree([
    await file(summaryFile, documents.summary),
    await file(certificateFile, documents.certificate),
    await directory(participantsDir, certificate.trees),
    await directory(channelsDir, certificate.channelTrees),
  ])
}
