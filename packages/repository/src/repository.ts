/**
 * Owns opening and making repositories, and the `Repository` that users hold. Everything it does lives in save, load
 * and upkeep.
 */
import { hostname, userInfo } from 'node:os'
import { assert, type Clock, type Entropy, Failure, isFailure, type Random, type TreeId } from '@stillpoint/core/kernel'
import { type BlobStore, configObject, listAll, type ObjectName } from './blob/blob-store.ts'
import { type CacheSettings, openCaching } from './blob/caching.ts'
import { deriveGearTable } from './chunk/gear-table.ts'
import { createClosing } from './closing.ts'
import { type Config, decodeConfig, encodeConfig } from './format/config.ts'
import { type CryptKeys, generateKeys, seal, unseal } from './format/crypto.ts'
import { DamageError } from './format/damage.ts'
import { type BlobId, type SnapshotId, sha256 } from './format/ids.ts'
import { decodeKeyFile, encodeKeyFile, openKeyFile, type ScryptCost } from './format/key-file.ts'
import { generatePolynomial } from './format/polynomial.ts'
import { timestampFromMs } from './format/timestamp.ts'
import type { TreeNode } from './format/tree.ts'
import { readTree } from './load/blob-reader.ts'
import { type LoadDirectoryOptions, type LoadedDirectory, loadDirectory } from './load/load-directory.ts'
import { readFile } from './load/read-file.ts'
import { resolvePath } from './load/resolve.ts'
import {
  findSnapshot,
  type ListSnapshotsOptions,
  listSnapshots,
  type Snapshot,
  type SnapshotFilter,
} from './load/snapshots.ts'
import { createLoadedIndex, type LoadedIndex } from './loaded-index.ts'
import { type Save, startSave } from './save/save.ts'
import { composeRoot, type SealOptions, sealSnapshot } from './save/seal.ts'
import { systemClock, systemEntropy, systemRandom } from './system-env.ts'
import { type CheckOptions, type CheckReport, checkRepository } from './upkeep/check.ts'
import { createLockKeeper, createReadOnlyKeeper, type LockMode, readOnlyFailure } from './upkeep/lock.ts'
import { createUpkeep, type Upkeep, vaultOf } from './upkeep/upkeep.ts'
import { damaged, type Vault } from './vault.ts'
import type { TaskContext } from './work/tasks.ts'
import { createWorkPool } from './work/work-pool.ts'
import { type CompressionMode, writeSettings } from './write-settings.ts'

export interface InitOptions {
  readonly store: BlobStore
  /** Bytes, or text that is taken as UTF-8; nothing is trimmed. */
  readonly password: Uint8Array | string
  /** Default: the system's. */
  readonly entropy?: Entropy
  /** Default: the system's. */
  readonly clock?: Clock
  /** What guessing the password costs. Default: 32 MiB and about 0.3 s per guess. */
  readonly scryptCost?: ScryptCost
  /**
   * Takes over from it the polynomial by which restic cuts files, so that restic's backups into both share what a copy
   * has brought. Ours are cut by a secret of each repository, which is not taken over. Default: a random one.
   */
  readonly copyChunkerFrom?: Repository
}

export interface OpenOptions {
  readonly store: BlobStore
  readonly password: Uint8Array | string
  /** Time and chance: the system's, unless given. */
  readonly clock?: Clock
  readonly entropy?: Entropy
  readonly random?: Random
  /** For media that cannot be written: no locks are taken, nothing can be saved or deleted. */
  readonly readOnly?: boolean
  /** How long to wait for a repository that others have locked, trying again. Default: not at all. */
  readonly lockWaitMs?: number
  /** Ends that waiting; its reason is thrown. */
  readonly signal?: AbortSignal
  /** The key, by its id or the beginning of it, to which the password is tried first: each trial costs some 0.3 s. */
  readonly keyHint?: string
  /** Threads for hashing, compression and encryption; 0: none but this one. Default: one per processor. */
  readonly threads?: number
  /**
   * When they start. `now`: while the password is tried, for who is about to read much. `whenNeeded`: with the first work
   * that is worth it. Default: `whenNeeded`.
   */
  readonly threadsStart?: 'now' | 'whenNeeded'
  /** Of what is written. Default: `auto`. */
  readonly compression?: CompressionMode
  /**
   * Packs are stored when they have so many bytes, 4 to 128 MiB. Default: 16 MiB. A save has up to seven in memory, as
   * far as they are filled.
   */
  readonly packBytes?: number
  /**
   * False: blobs are not read back from their packs before those are stored. That saves CPU time, and damage by bad memory
   * or by a bug of ours then shows only when they are read. Default: true.
   */
  readonly selfCheck?: boolean
  /** Keeps indexes, snapshots and packs of trees in a local directory. Default: only packs of trees, in memory. */
  readonly cache?: CacheSettings
  /**
   * When the index is read. `whenNeeded`: by the first call that reads a tree or data, or writes; for who only lists
   * snapshots, keys or locks, for which a large index would be read in vain. Default: `now`.
   */
  readonly index?: 'now' | 'whenNeeded'
  /** Opens it also where index files are damaged, so that they can be repaired; what only those knew is missing. */
  readonly forRepair?: boolean
}

export interface Repository {
  /** 64 hexadecimal digits that are the repository's own, wherever it is reached. */
  readonly id: string
  /** Begins a save, under a shared lock that it holds until it is finished or discarded. */
  startSave(): Promise<Save>
  /**
   * Writes a snapshot over trees that finished saves (of any process) have stored; it exists when this resolves.
   * @throws Failure `object_missing`, `object_damaged`, `tree_unsafe`, `repository_locked`
   */
  seal(options: SealOptions): Promise<SnapshotId>
  /** All snapshots, oldest first. @throws Failure `object_damaged` unless `onDamaged` takes it */
  snapshots(options?: ListSnapshotsOptions): Promise<readonly Snapshot[]>
  /** By id, by its beginning, or `latest`. @throws Failure `snapshot_absent`, `snapshot_ambiguous` */
  findSnapshot(id: string, filter?: SnapshotFilter): Promise<Snapshot>
  /** Entries of a tree. Names may be hostile: see `unsafeName`. */
  readTree(tree: TreeId): Promise<readonly TreeNode[]>
  /** The entry at a path below a tree. @throws Failure `path_absent` */
  resolve(tree: TreeId, path: string): Promise<TreeNode>
  /** Content of a file, each piece verified before it is given out. */
  readFile(node: { readonly content: readonly BlobId[] }, signal?: AbortSignal): AsyncGenerator<Uint8Array>
  /** Restores a tree into a directory; see `LoadDirectoryOptions`. */
  loadDirectory(tree: TreeId, targetPath: string, options?: LoadDirectoryOptions): Promise<LoadedDirectory>
  /** Removes the snapshot; data that nothing refers to any more stays until a prune. Takes an exclusive lock. */
  deleteSnapshot(id: SnapshotId): Promise<void>
  check(options?: CheckOptions): Promise<CheckReport>
  /** Forget, prune, repair, copy, keys and what else a repository needs over the years. */
  readonly upkeep: Upkeep
  /** Runs `action` under a lock, which calls on this repository inside it share. @throws Failure `repository_locked` */
  withLock<T>(mode: LockMode, action: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** Removes stale locks, or all. Returns how many. */
  unlock(options?: { readonly all?: boolean }): Promise<number>
  /**
   * Ends its use: what is under way is aborted with Failure `repository_closed`, saves that have not ended are discarded,
   * and when it resolves its locks are given back and its threads have ended. Every later call is refused. Idempotent.
   * The store stays open: it is its maker's. Not to be awaited inside `withLock`, which it waits for.
   */
  close(): Promise<void>
  /** For `await using`: the same. */
  [Symbol.asyncDispose](): Promise<void>
}

const keyObject = (name: string): ObjectName => ({ kind: 'key', name })
const passwordBytes = (password: Uint8Array | string) =>
  typeof password === 'string' ? Buffer.from(password, 'utf8') : password

/**
 * Makes a repository of format version 2 with one key.
 * @throws Failure `repository_exists`, `no_space`, `storage_denied`, `storage_failed`
 */
export async function initRepository(options: InitOptions): Promise<void> {
  const { store, entropy = systemEntropy, clock = systemClock, scryptCost, copyChunkerFrom } = options
  const exists = () =>
    new Failure({
      code: 'repository_exists',
      message: `there is a repository already: ${store.locate(configObject)}`,
      hint: 'Open it, or choose another place.',
    })
  if ((await store.size(configObject)) !== undefined) throw exists()
  await store.prepare()
  await refuseRemains(store)
  const master = generateKeys(entropy)
  const user = userInfo().username
  const owner = { username: user, hostname: hostname(), created: timestampFromMs(clock.wallMs()) }
  const password = passwordBytes(options.password)
  const keyFile = await encodeKeyFile({
    master,
    password,
    owner,
    entropy,
    ...(scryptCost === undefined ? {} : { cost: scryptCost }),
  })
  const key = keyObject(sha256(keyFile))
  await store.put(key, keyFile)
  const id = Buffer.alloc(32)
  entropy.fill(id)
  const chunkerPolynomial =
    copyChunkerFrom === undefined
      ? generatePolynomial(entropy)
      : vaultOf(copyChunkerFrom.upkeep).config.chunkerPolynomial
  const config: Config = { id: id.toString('hex'), chunkerPolynomial }
  if ((await store.put(configObject, seal(master, encodeConfig(config), entropy))) === 'exists') {
    await store.delete(key)
    throw exists()
  }
  // A rival that lost the race for the config may have taken our key for a remain, before the config was there.
  await store.put(key, keyFile)
}

/** Keys without a config are remains of an init that was killed. With anything else, the config has been lost. */
async function refuseRemains(store: BlobStore): Promise<void> {
  for (const kind of ['snapshot', 'index', 'pack'] as const) {
    for await (const batch of store.list(kind)) if (batch.length > 0) throw configLost(store)
  }
  for (const { name } of await listAll(store, 'key')) await store.delete(keyObject(name))
}

function configLost(store: BlobStore): Failure {
  return new Failure({
    code: 'repository_exists',
    message: `there is a repository that has lost its config: ${store.locate(configObject)} is missing`,
    hint: 'Bring the file back from a copy of the repository; without it the data cannot be opened.',
  })
}

/**
 * Opens a repository and reads its index, unless that is to wait.
 * @throws Failure `repository_absent`, `repository_version_unsupported`, `password_wrong`, `object_damaged`, …
 */
export async function openRepository(options: OpenOptions): Promise<Repository> {
  return repositoryOver(await openVault(options), options)
}

/** As `openRepository`, for the modules and tests of this package. */
export async function openVault(options: OpenOptions): Promise<Vault> {
  const { store, clock = systemClock } = options
  const writes = writeSettings(options)
  if ((await store.size(configObject)) === undefined) {
    throw new Failure({
      code: 'repository_absent',
      message: `there is no repository: ${store.locate(configObject)} is missing`,
      hint: 'Check the path, or make a repository there first: "stillpoint init" does, and so does "restic init".',
    })
  }
  let context: TaskContext | undefined
  const work = createWorkPool({
    context() {
      assert(context !== undefined, 'work is given when the repository has been unlocked')
      return context
    },
    clock,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  })
  if (options.threadsStart === 'now') work.startThreads()
  try {
    const unlocked = await unlockConfig(store, passwordBytes(options.password), options.keyHint)
    context = { keys: unlocked.keys, gear: deriveGearTable(unlocked.keys, unlocked.config.id) }
    return await vaultWith(options, unlocked, { work, writes })
  } catch (error) {
    await work.close()
    throw error
  }
}

async function vaultWith(
  options: OpenOptions,
  { keys, config, keyName }: Unlocked,
  { work, writes }: Pick<Vault, 'work' | 'writes'>,
): Promise<Vault> {
  const { store, clock = systemClock, entropy = systemEntropy, random = systemRandom } = options
  // A cache asks the index which packs hold trees, and the index is read through the cache.
  const opened: { index?: LoadedIndex } = {}
  const caching = await openCaching({
    store,
    repositoryId: config.id,
    clock,
    entropy,
    packs: () => opened.index?.blobs ?? noPacks,
    ...(options.cache === undefined ? {} : { settings: options.cache }),
  })
  const access = { store: caching.store, keys, entropy }
  const index = createLoadedIndex(access, { skipDamaged: options.forRepair === true })
  opened.index = index
  const vault: Vault = {
    ...access,
    direct: caching.direct,
    config,
    openedWith: { keyName },
    clock,
    random,
    index,
    work,
    writes,
  }
  if (options.index === 'whenNeeded') return vault
  await vault.index.refresh()
  await caching.tidy()
  return vault
}

const noPacks = { treePackBytes: () => undefined, hasPack: () => false }

interface Unlocked {
  readonly keys: CryptKeys
  readonly config: Config
  readonly keyName: string
}

async function unlockConfig(store: BlobStore, password: Uint8Array, keyHint: string | undefined): Promise<Unlocked> {
  const sealed = await store.get(configObject)
  let problem: unknown
  for (const name of await keyNames(store, keyHint)) {
    try {
      const keys = await openKeyFile(decodeKeyFile(await store.get(keyObject(name))), password)
      if (keys === undefined) continue
      return { keys, config: openConfig(store, sealed, keys), keyName: name }
    } catch (error) {
      if (isFailure(error, 'repository_version_unsupported')) throw error
      // Another key may open it. A key that vanished meanwhile was removed by somebody who may do so.
      problem ??= damaged(store, keyObject(name), error)
    }
  }
  if (problem !== undefined) throw problem
  throw new Failure({
    code: 'password_wrong',
    message: `no key of the repository opens with this password: ${store.locate(configObject)}`,
    hint: 'Check the password; a file with the password may end with a newline that does not belong to it.',
  })
}

/** Those that the hint may mean come first. */
async function keyNames(store: BlobStore, keyHint: string | undefined): Promise<readonly string[]> {
  const names = (await listAll(store, 'key')).map(({ name }) => name)
  if (keyHint === undefined || keyHint === '') return names
  return [...names.filter((name) => name.startsWith(keyHint)), ...names.filter((name) => !name.startsWith(keyHint))]
}

function openConfig(store: BlobStore, sealed: Uint8Array, keys: CryptKeys): Config {
  try {
    return decodeConfig(unseal(keys, sealed))
  } catch (error) {
    throw error instanceof DamageError ? damaged(store, configObject, error) : error
  }
}

type LockOptions = Pick<OpenOptions, 'readOnly' | 'lockWaitMs' | 'signal'>

function repositoryOver(opened: Vault, { readOnly = false, lockWaitMs = 0, signal }: LockOptions): Repository {
  const closing = createClosing()
  const store = closing.guard(opened.store)
  const vault: Vault = { ...opened, store, direct: () => closing.guard(opened.direct()) }
  const waiting = { waitMs: lockWaitMs, closed: closing.signal, ...(signal === undefined ? {} : { signal }) }
  const locks = readOnly ? createReadOnlyKeeper(closing.signal) : createLockKeeper(vault, waiting)
  const begin = async () => {
    if (readOnly) throw readOnlyFailure()
    return startSave(vault, await locks.acquire('shared'))
  }
  const close = () =>
    closing.close(async () => {
      await locks.idle()
      await vault.work.close()
    })
  return {
    id: vault.config.id,
    startSave: async () => closing.track(await begin()),
    seal: (options) =>
      locks.withLock('shared', async (signal) => {
        const root = await composeRoot(options, await begin())
        await vault.index.refresh()
        signal.throwIfAborted()
        return sealSnapshot(vault, root, options)
      }),
    snapshots: (options) => listSnapshots(vault, options),
    findSnapshot: (id, filter) => findSnapshot(vault, id, filter),
    readTree: (tree) => readTree(vault, tree),
    resolve: (tree, path) => resolvePath(vault, tree, path),
    readFile: (node, signal) => readFile(vault, node, signal),
    loadDirectory: (tree, targetPath, options) =>
      locks.withLock('shared', (signal) => loadDirectory(vault, { tree, targetPath, lockSignal: signal }, options)),
    deleteSnapshot: (id) =>
      locks.withLock('exclusive', async () => {
        await vault.store.delete({ kind: 'snapshot', name: id }).catch((error: unknown) => {
          if (!isFailure(error, 'object_missing')) throw error
          throw new Failure({ code: 'snapshot_absent', message: `there is no snapshot ${id}`, cause: error })
        })
        await vault.store.sweep()
      }),
    check: (options) =>
      locks.withLock(options?.exclusive === true ? 'exclusive' : 'shared', (signal) =>
        // What is checked is the repository, not what is kept of it, unless that is asked for.
        checkRepository(options?.withCache === true ? vault : { ...vault, store: vault.direct() }, signal, options),
      ),
    upkeep: createUpkeep(vault, locks, { readOnly }),
    withLock: (mode, action) => locks.withLock(mode, action),
    unlock: (options) => locks.unlock(options),
    close,
    [Symbol.asyncDispose]: close,
  }
}
