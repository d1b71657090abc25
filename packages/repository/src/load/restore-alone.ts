/** Owns restoring one file on its own, blob after blob: a further name of a file that cannot be linked to. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { BlobId } from '../format/ids.ts'
import { finishFile } from './finish-file.ts'
import type { Load } from './load.ts'
import type { Section } from './load-plan.ts'
import type { NodePlace } from './place-node.ts'
import { readFile } from './read-file.ts'

const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** @throws Failure `object_damaged`, `object_missing` */
export async function restoreAlone(
  load: Load,
  section: Section,
  { file, place }: { readonly file: number; readonly place: NodePlace },
): Promise<void> {
  const content = [...section.files.content(file)].map((blob) => section.blobs.id(blob).toString('hex') as BlobId)
  const handle = await open(place.directory.child(place.name), createFlags, 0o600)
  let begun: { inode: number; device: number }
  try {
    const { ino, dev } = await handle.stat()
    begun = { inode: ino, device: dev }
    for await (const piece of readFile(load.vault, { content }, load.signal)) await handle.writeFile(piece)
  } finally {
    await handle.close()
  }
  finishFile(load, section, { file, directory: place.directory, path: place.path, begun })
}
