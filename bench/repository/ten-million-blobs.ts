/**
 * What a repository of 10,000,000 blobs takes: time, memory per blob of the index, and the most memory of the process, for
 * opening it, backing up a small directory into it, listing, checking its structure and planning a prune; and what the
 * real restic takes on the same repository. Every step is a process of its own.
 *
 *   node bench/repository/ten-million-blobs.ts [--blobs N] [--keep DIR] [--steps open,backup,…]
 *
 * The repository is made up, and correct as far as it is read: index files as restic and we write them, of 40,000 blobs
 * each; real trees in real packs that refer to every data blob, under one real snapshot; but the packs of data are holes
 * of the right length (they take no room on disk), for nothing here reads data. So `check --read-data` and `restore`
 * would find damage, and are not measured.
 */
import { spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { newestRestic } from '@stillpoint/testbed'
import { listAll } from '../../packages/repository/src/blob/blob-store.ts'
import { openLocalStore } from '../../packages/repository/src/blob/local-store.ts'
import { type BlobId, blobId, packId, type TreeId } from '../../packages/repository/src/format/ids.ts'
import { encodeIndex, type IndexedPack } from '../../packages/repository/src/format/index-file.ts'
import { type PackEntry, packBytes } from '../../packages/repository/src/format/pack.ts'
import { initRepository, openRepository, openVault } from '../../packages/repository/src/repository.ts'
import { startSave } from '../../packages/repository/src/save/save.ts'
import { writeSnapshot } from '../../packages/repository/src/save/seal.ts'
import { openCoverageFile } from '../../packages/repository/src/upkeep/coverage-file.ts'
import { type Vault, writeDocument } from '../../packages/repository/src/vault.ts'
import { limitHeap } from '../../packages/stillpoint/src/cli/repo/limit-heap.ts'
import { systemClock, systemEntropy, systemRandom } from '../../packages/stillpoint/src/system-env.ts'

const password = 'ten million'
const world = { clock: systemClock, entropy: systemEntropy, random: systemRandom }
const blobsPerFile = 40_000
const blobsPerPack = 15
const blobsPerLargeFile = 900
const programVersion = 'ten-million-blobs'

const storeOf = (directory: string) => openLocalStore(join(directory, 'repository'))
const nowNs = () => BigInt(systemClock.wallMs()) * 1_000_000n

/** Random bytes from a block that is filled now and then: one call of the system per id would take most of the time. */
const block = Buffer.alloc(1 << 20)
let taken = block.length
function randomHex(): string {
  if (taken === block.length) {
    randomFillSync(block)
    taken = 0
  }
  taken += 32
  return block.toString('hex', taken - 32, taken)
}

/** An index file's worth of packs of data, and their files, which are holes. */
async function makePacks(directory: string, blobs: number): Promise<IndexedPack[]> {
  const packs: IndexedPack[] = []
  for (let made = 0; made < blobs; ) {
    const entries: PackEntry[] = []
    for (let offset = 0; entries.length < blobsPerPack && made < blobs; made += 1) {
      const plainBytes = 524_288 + (block[taken - 1] ?? 0) * 4096
      const length = plainBytes >>> 1
      entries.push({ id: randomHex(), type: 'data', offset, length, plainBytes })
      offset += length
    }
    packs.push({ id: packId(randomHex()), entries })
  }
  for (let at = 0; at < packs.length; at += 64)
    await Promise.all(packs.slice(at, at + 64).map((pack) => hole(directory, pack)))
  return packs
}

async function hole(directory: string, { id, entries }: IndexedPack): Promise<void> {
  const handle = await open(join(directory, 'repository', 'data', id.slice(0, 2), id), 'wx', 0o400)
  await handle.truncate(packBytes(entries))
  await handle.close()
}

/** One tree with files of 900 blobs each, which are all of these packs. */
async function treeOver(vault: Vault, packs: readonly IndexedPack[]): Promise<TreeId> {
  const blobs = packs.flatMap(({ entries }) => entries)
  const save = await startSave(vault, { signal: new AbortController().signal, release: async () => {} })
  const files = Array.from({ length: Math.ceil(blobs.length / blobsPerLargeFile) }, (_, at) => {
    const own = blobs.slice(at * blobsPerLargeFile, (at + 1) * blobsPerLargeFile)
    const content = own.map(({ id }): BlobId => blobId(id))
    const bytes = own.reduce((sum, { plainBytes }) => sum + (plainBytes ?? 0), 0)
    return { name: `volume-${String(at).padStart(4, '0')}`, type: 'file', content, bytes } as const
  })
  const tree = await save.saveTree(files)
  await save.finish()
  return tree
}

async function make(directory: string, blobs: number): Promise<void> {
  await initRepository({ store: storeOf(directory), password, ...world })
  const vault = await openVault({ store: storeOf(directory), password, ...world })
  const folders: TreeId[] = []
  for (let left = blobs; left > 0; left -= blobsPerFile) {
    const packs = await makePacks(directory, Math.min(left, blobsPerFile))
    vault.index.adopt(await writeDocument(vault, 'index', encodeIndex(packs)), packs)
    folders.push(await treeOver(vault, packs))
  }
  const save = await startSave(vault, { signal: new AbortController().signal, release: async () => {} })
  const entries = folders.map((subtree, at) => ({ name: `shelf-${at}`, type: 'dir', subtree }) as const)
  const root = await save.saveTree(entries)
  await save.finish()
  await writeSnapshot(vault, root, { ...sealing, time: nowNs() })
  const small = join(directory, 'small')
  await mkdir(small)
  for (let at = 0; at < 200; at += 1) await writeFile(join(small, `file-${at}`), randomHex().repeat(100 + at))
}

const sealing = { paths: ['/library'], hostname: 'bench', username: 'bench', programVersion }

const coverageOf = (directory: string) => openCoverageFile({ path: join(directory, 'coverage'), clock: systemClock })
const openOurs = (directory: string) => openRepository({ store: storeOf(directory), password, ...world })

/** Each is run in a process of its own, and says in words what it has found. */
const steps: Readonly<Record<string, (directory: string) => Promise<string>>> = {
  async open(directory) {
    const { index } = await openVault({ store: storeOf(directory), password, ...world })
    const { size, packs, bytes } = index.blobs
    return `${size} blobs in ${packs} packs, ${(bytes / size).toFixed(1)} bytes of index per blob`
  },
  async list(directory) {
    const repository = await openRepository({ store: storeOf(directory), password, ...world, index: 'whenNeeded' })
    return `${(await repository.snapshots()).length} snapshots`
  },
  async backup(directory) {
    await writeFile(join(directory, 'small', randomHex()), randomHex())
    const repository = await openOurs(directory)
    const store = storeOf(directory)
    const before = new Set((await listAll(store, 'index')).map(({ name }) => name))
    const save = await repository.startSave()
    const { tree, files } = await save.saveDirectory(join(directory, 'small'))
    await save.finish()
    await repository.seal({ ...sealing, time: nowNs(), paths: [join(directory, 'small')], tree })
    const added = (await listAll(store, 'index')).filter(({ name }) => !before.has(name))
    const bytes = added.reduce((sum, object) => sum + object.bytes, 0)
    return `${files} files; ${added.length} index file of ${bytes} bytes written, ${before.size} left as they were`
  },
  async check(directory) {
    const { problems, packs, trees } = await (await openOurs(directory)).check()
    const [first] = problems
    return `${packs} packs, ${trees} trees, ${problems.length} problems${first === undefined ? '' : `: ${first.message}`}`
  },
  /** A random pack; those of data are holes, so it is one problem more. */
  async subset(directory) {
    const { packsRead, packs } = await (await openOurs(directory)).check({ dataSubset: { kind: 'bytes', bytes: 1 } })
    return `${packsRead} of ${packs} packs read`
  },
  /** As if all data had been read before. */
  async remember(directory) {
    const names: string[] = []
    for await (const batch of storeOf(directory).list('pack')) names.push(...batch.map(({ name }) => name))
    const readMs = systemClock.wallMs() - 60_000
    await coverageOf(directory).save(names.map((name) => [name, readMs] as const))
    return `${names.length} packs`
  },
  async budget(directory) {
    const readBudget = { kind: 'bytes', bytes: 1 } as const
    const { coverage } = await (await openOurs(directory)).check({ readBudget, coverage: coverageOf(directory) })
    return `${coverage?.packsWithin} of ${coverage?.packs} packs read within 30 days`
  },
  async prune(directory) {
    const { used, unused } = await (await openOurs(directory)).upkeep.prune({ dryRun: true })
    return `${used.blobs} blobs used, ${unused.blobs} unused`
  },
}

interface Measured {
  readonly what: string
  readonly seconds: number
  readonly cpuSeconds: number
  readonly rssMiB: number
  readonly says: string
}

/** Runs a command under GNU time, which asks the kernel for the most memory that it ever had. */
async function measure(what: string, command: readonly string[], directory: string): Promise<Measured> {
  const report = join(directory, 'time')
  const [, ...rest] = command
  const child = spawn('/usr/bin/time', ['-f', '%e %U %S %M', '-o', report, command[0] ?? '', ...rest], {
    env: {
      ...process.env,
      RESTIC_PASSWORD_FILE: join(directory, 'password'),
      RESTIC_CACHE_DIR: join(directory, 'cache'),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let says = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    says += text
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  const [seconds = 0, user = 0, system = 0, kibibytes = 0] = (await readFile(report, 'utf8'))
    .trim()
    .split('\n')
    .slice(-1)
    .flatMap((line) => line.split(' ').map(Number))
  const line = says.trim().split('\n').at(-1) ?? ''
  const rssMiB = kibibytes / 1024
  return { what, seconds, cpuSeconds: user + system, rssMiB, says: code === 0 ? line : `ended with ${code}: ${line}` }
}

function print({ what, seconds, cpuSeconds, rssMiB, says }: Measured): void {
  const cells = [what.padEnd(28), `${seconds.toFixed(1)} s`.padStart(9), `${cpuSeconds.toFixed(1)} s`.padStart(9)]
  console.log(`${cells.join('  ')}  ${`${Math.round(rssMiB)} MiB`.padStart(9)}  ${says}`)
}

function commandsFor(directory: string): Readonly<Record<string, readonly string[]>> {
  const self = [process.execPath, import.meta.filename]
  const restic = [newestRestic.command, '--repo', join(directory, 'repository')]
  return {
    ...Object.fromEntries(Object.keys(steps).map((name) => [name, [...self, '--step', name, '--keep', directory]])),
    'restic-backup': [...restic, 'backup', join(directory, 'small')],
    'restic-backup-again': [...restic, 'backup', '--force', join(directory, 'small')],
    'restic-snapshots': [...restic, 'snapshots', '--compact'],
    'restic-check': [...restic, 'check'],
    'restic-prune': [...restic, 'prune', '--dry-run'],
  }
}

const stepsByDefault = 'open,list,backup,check,prune,restic-backup,restic-backup-again,restic-snapshots'

const usage = `node bench/repository/ten-million-blobs.ts [options]

  --blobs N      how many blobs are made up (default: 10000000)
  --keep DIR     where it is made, and kept for the next time (default: a temporary directory, which is removed)
  --steps A,B    what is measured (default: ${stepsByDefault};
                 also subset, remember and then budget: a check that reads some data;
                 restic-check, restic-prune; restic is the newest that is here)`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      blobs: { type: 'string', default: '10000000' },
      keep: { type: 'string' },
      steps: { type: 'string', default: stepsByDefault },
      step: { type: 'string' },
    },
  })
  if (values.help === true) {
    console.log(usage)
    return
  }
  if (values.step !== undefined) {
    limitHeap() // as the command does, which is measured here without its own start
    const says = await steps[values.step]?.(values.keep ?? '')
    console.log(says ?? 'there is no such step')
    return
  }
  const directory = values.keep ?? (await mkdtemp(join(tmpdir(), 'ten-million-blobs-')))
  try {
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, 'password'), password, { mode: 0o600 })
    if ((await storeOf(directory).size({ kind: 'config', name: 'config' })) === undefined) {
      await make(directory, Number(values.blobs))
    }
    console.log(`${''.padEnd(28)}       time        CPU     memory`)
    const commands = commandsFor(directory)
    for (const name of values.steps.split(',')) {
      const command = commands[name]
      if (command === undefined) throw new Error(`there is no step ${name}`)
      print(await measure(name, command, directory))
    }
  } finally {
    if (values.keep === undefined) await rm(directory, { recursive: true, force: true })
  }
}

await main()
