/** The transfers in flight that a snapshot holds, read back from its repository. */
import { type ChannelId, channelEnds, Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import { channelsDir, entriesAt, fileAt, messagesFile } from '../agent/snapshot-layout.ts'
import type { SystemConfig } from '../config/system-config.ts'
import { openConfiguredRepository, type RepositoryEnvironment } from '../coordinator/open-repository.ts'
import { findSystemSnapshot } from '../coordinator/snapshot-reader.ts'

export interface InFlightTransfer {
  readonly message: string
  readonly from: string
  readonly to: string
  /** Cents. */
  readonly amount: number
}

const lineSchema = z.looseObject({ message: z.string(), payload: z.string() })
const transferSchema = z.looseObject({ amount: z.int() })

/** @throws Failure `demo_failed`, and those of the repository */
export async function readInFlight(
  config: SystemConfig,
  snapshotId: string,
  env: RepositoryEnvironment,
): Promise<readonly InFlightTransfer[]> {
  const repository = await openConfiguredRepository(config, env)
  const { tree } = await findSystemSnapshot(repository, config.system, snapshotId)
  const found: InFlightTransfer[] = []
  for (const { name } of await entriesAt(repository, tree, channelsDir)) {
    const file = await fileAt(repository, tree, `${channelsDir}/${name}/${messagesFile}`)
    const bytes = await Array.fromAsync(repository.readFile(file, env.signal))
    for (const line of Buffer.concat(bytes).toString('utf8').split('\n')) {
      if (line !== '') found.push(transferOf(String(name) as ChannelId, line))
    }
  }
  return found
}

function transferOf(channel: ChannelId, line: string): InFlightTransfer {
  const { from, to } = channelEnds(channel)
  try {
    const { message, payload } = lineSchema.parse(JSON.parse(line))
    return { message, from, to, amount: transferSchema.parse(JSON.parse(payload)).amount }
  } catch (cause) {
    throw new Failure({ code: 'demo_failed', message: `A recorded message of ${channel} cannot be read`, cause })
  }
}
