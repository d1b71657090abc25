/** Owns the metadata of files that were not made in one go, and of those whose content was there. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import type { HeldDirectory } from '../anchored-directory.ts'
import { failedAttributes } from './attempt.ts'
import type { Load } from './load.ts'
import type { Section } from './load-plan.ts'
import { placeAttributes } from './place-attributes.ts'
import { applyMetadata, conflict } from './place-node.ts'

export interface FinishedFile {
  readonly file: number
  readonly directory: HeldDirectory
  readonly path: string
  /** Undefined: any regular file of this name. */
  readonly begun: { readonly inode: number; readonly device: number } | undefined
}

const writeFlags = constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** @throws Failure `target_conflict` where the name leads to another file by now */
export function finishFile(load: Load, section: Section, finished: FinishedFile): void {
  const { file, directory, path, begun } = finished
  const { files } = section
  const place = { directory, name: files.name(file), path }
  const fd = openSync(directory.child(place.name), writeFlags)
  try {
    const status = fstatSync(fd, { bigint: true })
    const [inode, device] = [Number(status.ino), Number(status.dev)]
    const isOther = begun !== undefined && (begun.inode !== inode || begun.device !== device)
    if (isOther || !status.isFile()) throw conflict(place)
    const node = {
      permissions: files.permissions(file),
      uid: files.uid(file),
      gid: files.gid(file),
      atime: files.atime(file),
      mtime: files.mtime(file),
    }
    const attributes = section.attributes.get(file) ?? []
    const between = () => {
      const isAlone = load.directories.get(files.directory(file))?.made?.isAlone === true
      const entry = { place, inode: status.ino, device: status.dev, attributes }
      failedAttributes(load, path, placeAttributes(entry, { isAlone, selects: load.selectsAttribute }))
    }
    applyMetadata(fd, node, { owners: load.owners.canChange, between })
    const key = section.linkTargets.get(file)
    if (key !== undefined) load.linked.set(key, { directory: files.directory(file), name: place.name, inode, device })
  } finally {
    closeSync(fd)
  }
}
