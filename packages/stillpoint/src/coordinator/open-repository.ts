/**
 * From a configuration to its repository.
 *
 * Owns: reading the password where the configuration says it is, and choosing the backend. Does not own: the format.
 */
import { type Clock, type Entropy, Failure, type Random } from '@stillpoint/core/kernel'
import {
  type BlobStore,
  initRepository,
  openLocalStore,
  openRepository,
  openRestStore,
  openS3Store,
  type Repository,
  retryingStore,
} from '@stillpoint/repository'
import { readSecret } from '../config/secret.ts'
import {
  type RepositoryConfig,
  repositoryAddress,
  type ServerPlace,
  type SystemConfig,
} from '../config/system-config.ts'

export interface RepositoryEnvironment {
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  readonly signal: AbortSignal
  /** Ends requests to a server too. Not for what holds locks: they are given back by requests. */
  readonly requestSignal?: AbortSignal
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
  const store = await openConfiguredStore(config.repository, env)
  return openRepository({ store, password, clock, random, entropy })
}

/** Makes the repository that the configuration names. @throws Failure `repository_exists`, and as above */
export async function initConfiguredRepository(config: SystemConfig, env: RepositoryEnvironment): Promise<void> {
  const password = await readPassword(config, env)
  const { clock, entropy } = env
  await initRepository({ store: await openConfiguredStore(config.repository, env), password, clock, entropy })
}

/** @throws Failure `options_invalid`, `secret_…` of the credentials, `storage_failed` (CA file) */
async function openConfiguredStore(repository: RepositoryConfig, env: RepositoryEnvironment): Promise<BlobStore> {
  if (repository.path !== undefined) return openLocalStore(repository.path)
  const { clock, random, requestSignal } = env
  const signal = requestSignal === undefined ? {} : { signal: requestSignal }
  const store = await (repository.url.startsWith('s3:') ? onS3(repository, signal) : onServer(repository, signal))
  return retryingStore(store, { clock, random, ...signal })
}

interface Aborting {
  readonly signal?: AbortSignal
}

function onServer({ url, credentialsFile, caFile, insecureHttp }: ServerPlace, signal: Aborting): Promise<BlobStore> {
  return openRestStore({
    url,
    ...(credentialsFile === undefined ? {} : { credentialsFile }),
    ...(caFile === undefined ? {} : { caFile }),
    ...(insecureHttp === undefined ? {} : { insecureHttp }),
    ...signal,
  })
}

function onS3({ url, credentialsFile, caFile, s3 = {} }: ServerPlace, signal: Aborting): Promise<BlobStore> {
  const { region, profile, addressing, storageClass, objectLock } = s3
  return openS3Store({
    location: url,
    ...(credentialsFile === undefined ? {} : { credentialsFile }),
    ...(caFile === undefined ? {} : { caFile }),
    ...(region === undefined ? {} : { region }),
    ...(profile === undefined ? {} : { profile }),
    ...(addressing === undefined ? {} : { addressing }),
    ...(storageClass === undefined ? {} : { storageClass }),
    ...(objectLock === undefined ? {} : { retention: objectLock }),
    ...signal,
  })
}

async function readPassword({ repository, baseDir, path }: SystemConfig, env: RepositoryEnvironment): Promise<string> {
  const password = await readSecret(repository, baseDir, env.signal, env.note)
  if (password !== undefined) return password
  throw new Failure({
    code: 'repository_password_missing',
    message: `${path} does not say where the password of the repository ${repositoryAddress(repository)} is`,
    hint: 'Set passwordFile or passwordCommand below repository.',
  })
}
