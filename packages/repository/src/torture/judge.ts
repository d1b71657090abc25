/**
 * Owns what must hold after an operation failed, died or was lied to: what was listed before is whole, the operation can
 * be run again, and then everything is as if it had gone well the first time.
 */
import { isFailure } from '@stillpoint/core/kernel'
import type { BlobStore } from '../blob/blob-store.ts'
import type { Repository } from '../repository.ts'
import { type Readable, readableOf, unreadable } from './damage-model.ts'
import { type OperationName, openPlace, type Place, runOperation } from './operations.ts'
import { passwords } from './subject.ts'

/** Operations that replace snapshots by others, or were told to remove some. */
const replacing = new Set<OperationName>(['tag', 'repairSnapshots'])

/** Opened with whichever password is valid. */
async function openAny(store: BlobStore): Promise<Repository> {
  try {
    return await openPlace('', { store })
  } catch (error) {
    if (!isFailure(error, 'password_wrong')) throw error
    return openPlace('', { store, password: passwords[1] })
  }
}

export interface Before {
  readonly name: OperationName
  readonly readable: Readable
  /** What the operation leaves when nothing goes wrong. */
  readonly finished: readonly string[]
  /** How many problems a check finds then: a repair of packs leaves them to the repair of snapshots. */
  readonly problems: number
}

/** By snapshot: its content without its id, so that it can be compared with another one of the same content. */
function bySnapshot(readable: Readable): ReadonlyMap<string, readonly string[]> {
  const snapshots = new Map<string, string[]>()
  for (const [path, shown] of readable) {
    const slash = path.indexOf('/')
    const lines = snapshots.get(path.slice(0, slash)) ?? []
    snapshots.set(path.slice(0, slash), lines)
    lines.push(`${path.slice(slash)} ${shown}`)
  }
  return snapshots
}

/** Contents of all snapshots, each once: who was interrupted may have written the same snapshot twice. */
function contentsOf(readable: Readable): readonly string[] {
  return [...new Set([...bySnapshot(readable).values()].map((lines) => lines.toSorted().join('\n')))].toSorted()
}

function openUnchecked(name: OperationName, store: BlobStore): Promise<Repository> {
  return name === 'repairIndex' ? openPlace('', { store, forRepair: true }) : openAny(store)
}

export async function before(name: OperationName, start: BlobStore, end: BlobStore): Promise<Before> {
  const finished = await openAny(end)
  return {
    name,
    readable: await readableOf(await openUnchecked(name, start)),
    finished: contentsOf(await readableOf(finished)),
    problems: (await finished.check()).problems.length,
  }
}

/** Snapshots that were listed before and of which something cannot be read any more. */
export async function lostSince({ name, readable, finished }: Before, store: BlobStore): Promise<readonly string[]> {
  const now = bySnapshot(await readableOf(await openUnchecked(name, store)))
  const contentsNow = new Set([...now.values()].flat())
  const lost: string[] = []
  for (const [id, lines] of bySnapshot(readable)) {
    const linesNow = now.get(id)
    if (linesNow === undefined) {
      const isMeant = name === 'forget' && !finished.includes(lines.toSorted().join('\n'))
      const isReplaced =
        replacing.has(name) && lines.every((line) => line.endsWith(unreadable) || contentsNow.has(line))
      if (!isMeant && !isReplaced) lost.push(`snapshot ${id} is gone`)
      continue
    }
    const there = new Set(linesNow)
    for (const line of lines) if (!there.has(line) && !line.endsWith(unreadable)) lost.push(`${id}: ${line}`)
  }
  return lost
}

/** What a check finds that it should not find after the operation. */
export async function problemsOf(given: Before, store: BlobStore): Promise<readonly string[]> {
  const repository = await openUnchecked(given.name, store)
  await repository.unlock({ all: true })
  const { problems } = await repository.check({ readData: true })
  return problems.length <= given.problems ? [] : problems.map(({ message }) => message)
}

/** Runs it again on a sound store and tells what is not as it should be then. */
export async function wrongAfterSecondRun(given: Before, place: Place, store: BlobStore): Promise<readonly string[]> {
  // Its locks are those of a process that is gone.
  await (await openUnchecked(given.name, store)).unlock({ all: true })
  await runOperation(given.name, { place, store })
  const repository = await openAny(store)
  const wrong: string[] = []
  const contents = contentsOf(await readableOf(repository))
  for (const content of given.finished) if (!contents.includes(content)) wrong.push(`not there at the end: ${content}`)
  for (const content of contents) if (!given.finished.includes(content)) wrong.push(`there at the end: ${content}`)
  const { problems } = await repository.check({ exclusive: true })
  if (problems.length !== given.problems) wrong.push(...problems.map(({ message }) => message))
  await repository.upkeep.removeSnapshots([]) // sweeps
  if ((await store.sweep()) > 0) wrong.push('temporary files are left after everything')
  return wrong
}
