/**
 * Owns the decision what is to be done about each file of a section: nothing, its metadata, some of its blobs, all of it.
 * Looks at the target, and changes nothing there.
 */
import { type FoundFile, isKept } from './examine-files.ts'
import { examineSection } from './examine-section.ts'
import type { Load } from './load.ts'
import { pathOfDirectory, type Section } from './load-plan.ts'

/** How the file is to be made or found before anything is written to it. */
export type FileStart =
  /** It is created; what is in its place is removed before. `isUpdate`: that is a file, too, which has other names. */
  | { readonly kind: 'create'; readonly clears: boolean; readonly isUpdate: boolean }
  /** It is written in place, where it differs. */
  | { readonly kind: 'update'; readonly inode: number; readonly device: number; readonly isEmptied: boolean }

export interface Decisions {
  /** Files in state `pieces` that are not simply created. */
  readonly starts: Map<number, FileStart>
}

/** What is told of a file that was written. */
export function outcomeOf({ starts }: Decisions, file: number): 'restored' | 'updated' {
  const start = starts.get(file)
  return start?.kind === 'update' || start?.isUpdate === true ? 'updated' : 'restored'
}

/** Sets the state of each planned file, and says of each blob that is to be written where it belongs. */
export async function decideFiles(load: Load, section: Section): Promise<Decisions> {
  const decisions: Decisions = { starts: new Map() }
  const there: number[] = []
  const links = new Set(section.links.map(({ file }) => file))
  for (let file = 0; file < section.files.size; file += 1) {
    if (section.files.state(file) !== 'planned') continue
    const made = load.directories.get(section.files.directory(file))?.made
    if (made === undefined) section.files.setState(file, 'left')
    else if (links.has(file)) section.files.setState(file, 'link')
    else if (made.isFresh) decideNew(load, section, file)
    else there.push(file)
  }
  const { overwrite } = load
  if (overwrite === 'refuse') return decisions
  await examineSection(load, section, { files: there, overwrite }, (file, found) => {
    if (found.kind === 'file') decideUpdate(load, section, { file, found, decisions })
    else decideOther(load, section, { file, found, decisions })
  })
  return decisions
}

function decideNew(load: Load, section: Section, file: number): void {
  const { files, blobs, attributes, linkTargets } = section
  const content = files.content(file)
  const givesAcl = load.directories.get(files.directory(file))?.made?.givesAcl === true
  const isWhole = content.length <= 1 && !attributes.has(file) && !linkTargets.has(file) && !givesAcl
  files.setState(file, isWhole ? 'whole' : 'pieces')
  files.setLeft(file, content.length)
  let position = 0
  for (const blob of content) {
    blobs.refer(blob, file, position)
    position += blobs.plainBytes(blob)
  }
}

interface Decided<F extends FoundFile> {
  readonly file: number
  readonly found: F
  readonly decisions: Decisions
}

function decideOther(load: Load, section: Section, { file, found, decisions }: Decided<FoundFile>): void {
  if (found.kind !== 'absent' && isKeptHere(load, section, { file, found })) return keep(load, section, file)
  decideNew(load, section, file)
  if (found.kind === 'absent') return
  section.files.setState(file, 'pieces')
  decisions.starts.set(file, { kind: 'create', clears: true, isUpdate: false })
}

function decideUpdate(
  load: Load,
  section: Section,
  { file, found, decisions }: Decided<Extract<FoundFile, { kind: 'file' }>>,
): void {
  const { files, blobs } = section
  if (isKeptHere(load, section, { file, found })) return keep(load, section, file)
  const missing = found.there.reduce((sum, isThere) => sum + 1 - isThere, 0)
  const isSame = missing === 0 && found.bytes === files.bytes(file)
  if (found.isShared && !(isSame && found.isSameMetadata)) {
    decideNew(load, section, file)
    files.setState(file, 'pieces')
    decisions.starts.set(file, { kind: 'create', clears: true, isUpdate: true })
    return
  }
  if (isSame) {
    const key = section.linkTargets.get(file)
    const { inode, device } = found
    const at = { directory: files.directory(file), name: files.name(file) }
    if (key !== undefined) load.linked.set(key, { ...at, inode, device })
    files.setState(file, found.isSameMetadata ? 'same' : 'tidied')
    const path = () => `${pathOfDirectory(load.directories, files.directory(file))}${files.name(file)}`
    load.counted({ kind: 'file', outcome: 'unchanged', path, bytes: files.bytes(file) })
    return
  }
  files.setState(file, 'pieces')
  files.setLeft(file, missing)
  const { inode, device } = found
  decisions.starts.set(file, { kind: 'update', inode, device, isEmptied: missing === found.there.length })
  let position = 0
  for (const [at, blob] of files.content(file).entries()) {
    if (found.there[at] !== 1) blobs.refer(blob, file, position)
    position += blobs.plainBytes(blob)
  }
}

function isKeptHere(
  { overwrite }: Load,
  { files }: Section,
  { file, found }: { readonly file: number; readonly found: Exclude<FoundFile, { kind: 'absent' }> },
): boolean {
  return overwrite !== 'refuse' && isKept(overwrite, { found: found.mtime, wanted: files.mtime(file) })
}

function keep(load: Load, section: Section, file: number): void {
  const { files } = section
  files.setState(file, 'left')
  const path = () => `${pathOfDirectory(load.directories, files.directory(file))}${files.name(file)}`
  load.counted({ kind: 'file', outcome: 'kept', path, bytes: files.bytes(file) })
}
