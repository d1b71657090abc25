/** The bank as a system: its directory, its stillpoint.yaml, its repository. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Entropy } from '@stillpoint/core/kernel'
import { loadConfig } from '../config/load.ts'
import type { SystemConfig } from '../config/system-config.ts'
import { initConfiguredRepository, type RepositoryEnvironment } from '../coordinator/open-repository.ts'
import { sources } from '../sources/registry.ts'
import { branchNames } from './bank/bank.ts'

/** Makes `dir` the home of a bank that has no branches running yet. */
export async function layOutBank(
  dir: string,
  env: RepositoryEnvironment & { entropy: Entropy },
): Promise<SystemConfig> {
  await mkdir(join(dir, 'ledgers'), { recursive: true })
  const password = Buffer.alloc(24)
  env.entropy.fill(password)
  await writeFile(join(dir, 'repository-password'), `${password.toString('base64url')}\n`, { mode: 0o600, flag: 'wx' })
  const path = join(dir, 'stillpoint.yaml')
  await writeFile(path, bankYaml(), { flag: 'wx' })
  const optionSchemas = new Map([...sources].map(([kind, { optionsSchema }]) => [kind, optionsSchema]))
  const config = await loadConfig(path, { optionSchemas })
  await initConfiguredRepository(config, env)
  return config
}

function bankYaml(): string {
  const participants = branchNames.flatMap((name) => [
    `  ${name}: { process: true }`,
    `  ${name}-ledger: { source: sqlite, path: ./ledgers/${name}.sqlite, writers: [${name}] }`,
  ])
  return [
    '# Four branches of a bank, each a process with a ledger of its own.',
    'version: 1',
    'system: bank',
    'repository: { path: ./snapshots, passwordFile: ./repository-password }',
    'participants:',
    ...participants,
    '',
  ].join('\n')
}
