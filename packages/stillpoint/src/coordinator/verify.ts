/**
 * Verifies a snapshot: everything that it says of itself is computed again, and all its data is read.
 *
 * Owns: the checks, each with a name that says what held or did not. Does not own: trust in the evidence itself; who has
 * the repository's password can write a snapshot that agrees with itself.
 */
import { type Certificate, canonicalPlan, verdictOf } from '@stillpoint/core'
import { type ChannelId, describeFailure, Failure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot, TreeId } from '@stillpoint/repository'
import { readRecordedMessages } from '../agent/recorded-messages.ts'
import { channelsDir, entriesAt, fileAt, messagesFile, participantsDir } from '../agent/snapshot-layout.ts'
import type { OperationContext, VerifyResult } from './operations.ts'
import { readAllData } from './read-data.ts'
import { type SnapshotDocument, sha256 } from './snapshot-document.ts'
import { readCertificateOf, readDocumentOf } from './snapshot-reader.ts'
import { channelDifference, inFlightOf, longestHoldMs, recordedOn } from './summary.ts'

type Check = VerifyResult['checks'][number]

export async function verifySnapshot(
  repository: Repository,
  snapshot: Snapshot,
  context: OperationContext,
): Promise<VerifyResult> {
  context.onEvent({ type: 'phase', phase: 'verify', attempt: 1 })
  const checks: Check[] = []
  const document = await checked(checks, 'summary is readable', () => readDocumentOf(repository, snapshot))
  const read = await checked(checks, 'certificate is readable', () => readCertificateOf(repository, snapshot))
  let verdict: VerifyResult['verdict'] = 'inconsistent'
  if (document !== undefined && read !== undefined) {
    verdict = verdictOf(read.certificate).kind
    checks.push(...documentChecks(document, read))
    checks.push(...(await treeChecks(repository, snapshot.tree, read.certificate)))
    checks.push(...(await channelChecks(repository, snapshot.tree, read.certificate)))
  }
  const data = await readAllData(repository, snapshot.tree, {
    signal: context.signal,
    onProgress: ({ bytes, files }) =>
      context.onEvent({ type: 'progress', participant: '', bytes, bytesTotal: null, files }),
  })
  checks.push({
    name: 'data is whole',
    passed: data.problems.length === 0,
    detail: data.problems.length === 0 ? `${data.files} files, ${data.bytes} bytes read` : data.problems.join('; '),
  })
  const passed = checks.every((check) => check.passed)
  return { id: snapshot.id, passed, verdict, checks, bytesRead: data.bytes }
}

async function checked<T>(checks: Check[], name: string, read: () => Promise<T>): Promise<T | undefined> {
  try {
    const value = await read()
    checks.push({ name, passed: true, detail: '' })
    return value
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    checks.push({ name, passed: false, detail: describeFailure(error).message })
    return undefined
  }
}

function equal(name: string, recorded: unknown, computed: unknown): Check {
  const [a, b] = [JSON.stringify(recorded), JSON.stringify(computed)]
  return { name, passed: a === b, detail: a === b ? '' : `recorded ${a}, computed ${b}` }
}

function documentChecks(
  document: SnapshotDocument,
  { bytes, certificate }: { readonly bytes: Buffer; readonly certificate: Certificate },
): readonly Check[] {
  const { plan } = certificate
  const verdict = verdictOf(certificate)
  return [
    equal('certificate digest', document.certificateSha256, sha256(bytes)),
    equal('plan digest', certificate.planDigest, sha256(Buffer.from(canonicalPlan(plan)))),
    equal('plan', canonicalPlan(document.plan), canonicalPlan(plan)),
    equal(
      'cut',
      [document.system, document.cut, document.epoch, document.generation],
      [plan.system, plan.cut, plan.epoch, plan.generation],
    ),
    equal('verdict', document.verdict, { kind: verdict.kind, reasons: verdict.reasons }),
    equal('pause', document.pauseMs, longestHoldMs(certificate)),
    equal('messages in flight', document.inFlight, inFlightOf(certificate)),
    equal('participants', sortedTrees(document.participants), sortedTrees(treesOf(certificate))),
  ]
}

interface NamedTree {
  readonly name: string
  readonly tree: string
}

function treesOf({ trees }: Certificate): readonly NamedTree[] {
  return Object.entries(trees).map(([name, tree]) => ({ name, tree }))
}

function sortedTrees(trees: readonly NamedTree[]): readonly string[] {
  return trees.map(({ name, tree }) => `${name} ${tree}`).toSorted()
}

/** The trees of the evidence are the ones in the snapshot, and nobody else's. */
async function treeChecks(repository: Repository, root: TreeId, certificate: Certificate): Promise<readonly Check[]> {
  const stored = async (path: string): Promise<readonly NamedTree[]> =>
    (await entriesAt(repository, root, path)).map((node) => ({
      name: node.name,
      tree: node.type === 'dir' ? node.subtree : node.type,
    }))
  const channels = Object.entries(certificate.channelTrees).map(([name, tree]) => ({ name, tree }))
  return [
    equal('captured trees', sortedTrees(await stored(participantsDir)), sortedTrees(treesOf(certificate))),
    equal('channel trees', sortedTrees(await stored(channelsDir)), sortedTrees(channels)),
  ]
}

/** The stored messages of each channel are the ones that its receiver recorded. */
async function channelChecks(
  repository: Repository,
  root: TreeId,
  certificate: Certificate,
): Promise<readonly Check[]> {
  const checks: Check[] = []
  const names = new Set(Object.keys(certificate.channelTrees))
  for (const { drained } of Object.values(certificate.processes)) {
    for (const { channel, recorded } of drained) if (recorded.length > 0) names.add(channel)
  }
  for (const name of [...names].toSorted()) {
    const stored = new Map<string, string>()
    const read = await checked(checks, `messages of ${name} are readable`, async () => {
      const node = await fileAt(repository, root, `${channelsDir}/${name}/${messagesFile}`)
      const lines = readRecordedMessages(repository.readFile(node), name as ChannelId, ({ session, seq, message }) => {
        stored.set(`${session}#${seq}`, message)
      })
      let bytes = 0
      for await (const piece of lines) bytes += piece.length
      return bytes
    })
    if (read === undefined) continue
    const difference = channelDifference(recordedOn(certificate, name), stored)
    const detail = difference ?? `${stored.size} messages`
    checks.push({ name: `messages of ${name}`, passed: difference === undefined, detail })
  }
  return checks
}
