/**
 * Reads back what a process is to be restored from: its state and the messages that were in flight to it.
 *
 * Owns: finding them in the snapshot of a restore. Does not own: which restores a process has still to go through; the
 * catalog knows, and what it does not know is refused (C9).
 */
import type { RestoreContents } from '@stillpoint/core'
import { type ChannelId, channelEnds, Failure, type ParticipantName } from '@stillpoint/core/kernel'
import { type Repository, type TreeNode, unsafeName } from '@stillpoint/repository'
import type { Catalog } from '../catalog/catalog.ts'
import {
  channelsDir,
  channelsTo,
  entriesAt,
  fileAt,
  messagesFile,
  participantsDir,
  stateDir,
} from './snapshot-layout.ts'

export interface ProcessRestoresOptions {
  readonly system: string
  readonly catalog: Pick<Catalog, 'pendingRestores'>
  readonly repository: () => Promise<Repository>
}

type Root = Awaited<ReturnType<Repository['findSnapshot']>>['tree']

export class ProcessRestores {
  readonly #options: ProcessRestoresOptions

  constructor(options: ProcessRestoresOptions) {
    this.#options = options
  }

  /** @throws Failure `restore_unknown` */
  async contents(restore: string, participant: ParticipantName): Promise<RestoreContents> {
    const { repository, root } = await this.#root(restore, participant)
    const parts = await entriesAt(repository, root, `${participantsDir}/${participant}/${stateDir}`)
    const channels = await channelsTo(repository, root, participant)
    return { parts: parts.map(({ name }) => name), channels }
  }

  /** @throws Failure `restore_unknown`, `part_absent` */
  async readState(restore: string, participant: ParticipantName, part: string): Promise<AsyncIterable<Uint8Array>> {
    const { repository, root } = await this.#root(restore, participant)
    const parts = await entriesAt(repository, root, `${participantsDir}/${participant}/${stateDir}`)
    const node = unsafeName(part) === undefined ? parts.find(({ name }) => name === part) : undefined
    if (node?.type !== 'file') throw absent('part_absent', `no part ${JSON.stringify(part)} of "${participant}"`)
    return repository.readFile(node)
  }

  /** @throws Failure `restore_unknown`, `channel_absent` */
  async readChannel(
    restore: string,
    participant: ParticipantName,
    channel: ChannelId,
  ): Promise<AsyncIterable<Uint8Array>> {
    const { repository, root } = await this.#root(restore, participant)
    const channels = await entriesAt(repository, root, channelsDir)
    const node: TreeNode | undefined = channels.find(({ name }) => name === channel)
    if (channelEnds(channel).to !== participant || node?.type !== 'dir') {
      throw absent('channel_absent', `no state of the channel ${channel} for "${participant}"`)
    }
    return repository.readFile(await fileAt(repository, node.subtree, messagesFile))
  }

  async #root(restore: string, participant: ParticipantName): Promise<{ repository: Repository; root: Root }> {
    const { system, catalog } = this.#options
    const pending = (await catalog.pendingRestores(system)).find(
      (each) => each.participant === participant && each.offer.restore === restore,
    )
    if (pending === undefined) {
      throw new Failure({
        code: 'restore_unknown',
        message: `"${participant}" is not waiting for a restore ${JSON.stringify(restore)}`,
        hint: 'It has been through it, or a newer restore has taken its place.',
      })
    }
    const repository = await this.#options.repository()
    const { tree } = await repository.findSnapshot(pending.offer.snapshot)
    return { repository, root: tree }
  }
}

function absent(code: string, what: string): Failure {
  return new Failure({ code, message: `The snapshot has ${what}` })
}
