/**
 * From a configuration to its repository.
 *
 * Owns: reading the password where the configuration says it is, and choosing the backend. Does not own: the format.
 */
import { type Clock, type Entropy, Failure, type Random } from '@stillpoint/core/kernel'
import { initRepository, openLocalStore, openRepository, type Repository } from '@stillpoint/repository'
import { readSecret } from '../config/secret.ts'
import type { SystemConfig } from '../config/system-config.ts'

export interface RepositoryEnvironment {
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  readonly signal: AbortSignal
  /** What a user should know, such as a password file that others can read. Never a secret. */
  readonly note?: (text: string) => void
}

/**
 * @throws Failure `repository_absent`, `password_wrong`, `repository_password_missing`, and those of `readSecret` and
 *   `openRepository`
 */
export async function openConfiguredRepository(config: SystemConfig, env: RepositoryEnvironment): Promise<Repository> {
  const password = await readPassword(config, env)
  const { clock, random, entropy } = env
  return openRepository({ store: openLocalStore(config.repository.path), password, clock, random, entropy })
}

/** Makes the repository that the configuration names. @throws Failure `repository_exists`, and as above */
export async function initConfiguredRepository(config: SystemConfig, env: RepositoryEnvironment): Promise<void> {
  const password = await readPassword(config, env)
  const { clock, entropy } = env
  await initRepository({ store: openLocalStore(config.repository.path), password, clock, entropy })
}

async function readPassword({ repository, baseDir, path }: SystemConfig, env: RepositoryEnvironment): Promise<string> {
  const password = await readSecret(repository, baseDir, env.signal, env.note)
  if (password !== undefined) return password
  throw new Failure({
    code: 'repository_password_missing',
    message: `${path} does not say where the password of the repository ${repository.path} is`,
    hint: 'Set passwordFile or passwordCommand below repository.',
  })
}
