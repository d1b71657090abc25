/**
 * What a URL of the REST protocol names: a repository of a user, and an object or a folder in it.
 *
 * Owns: the way from a URL to a path on disk. Does not own: who may go there.
 *
 * Invariant: every component of every path that leaves this file has been matched against a list of what is allowed.
 * Nothing is decoded, cleaned or resolved: what would need that is refused, so `..`, `%2e`, `\`, NUL, empty components
 * and names that begin with a dot cannot mean anything.
 */
import { join } from 'node:path'
import { userNameProblem } from './user-names.ts'

export const objectFolders = ['data', 'index', 'keys', 'locks', 'snapshots'] as const
export type ObjectFolder = (typeof objectFolders)[number]

export type RequestTarget =
  | { readonly kind: 'repository'; readonly place: RepositoryAt }
  | { readonly kind: 'folder'; readonly place: RepositoryAt; readonly folder: ObjectFolder }
  | { readonly kind: 'object'; readonly place: RepositoryAt; readonly object: ObjectAt }

export interface RepositoryAt {
  readonly user: string
  /** Below the user: empty for the user's own, else names joined by slashes. */
  readonly name: string
}

export type ObjectAt =
  | { readonly folder: ObjectFolder; readonly name: string }
  | { readonly folder: 'config'; readonly name: 'config' }

const urlCharactersMax = 1_024
const depthMax = 4
const partPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const idPattern = /^[0-9a-f]{64}$/
const taken = new Set<string>([...objectFolders, 'config'])

function isFolder(text: string): text is ObjectFolder {
  return objectFolders.some((folder) => folder === text)
}

/** @param url as it came: path and query. Undefined where it names nothing of the protocol. */
export function parseTarget(url: string): RequestTarget | undefined {
  if (url.length > urlCharactersMax) return undefined
  const path = url.split('?', 1)[0] ?? ''
  if (!path.startsWith('/')) return undefined
  const parts = path.slice(1).split('/')
  // A slash at the end ends a folder or a repository.
  const isFolderUrl = parts.at(-1) === ''
  if (isFolderUrl) parts.pop()
  const [user = ''] = parts
  if (userNameProblem(user) !== undefined) return undefined
  const end = parts.findIndex((part) => taken.has(part))
  const names = parts.slice(1, end === -1 ? undefined : end)
  if (names.length > depthMax || !names.every((name) => partPattern.test(name))) return undefined
  const place = { user, name: names.join('/') }
  if (end === -1) return { kind: 'repository', place }
  return parseInside(place, parts.slice(end), isFolderUrl)
}

function parseInside(place: RepositoryAt, inside: readonly string[], isFolderUrl: boolean): RequestTarget | undefined {
  const [first = '', name, ...more] = inside
  if (more.length > 0) return undefined
  if (first === 'config') {
    if (name !== undefined || isFolderUrl) return undefined
    return { kind: 'object', place, object: { folder: 'config', name: 'config' } }
  }
  if (!isFolder(first)) return undefined
  if (name === undefined) return { kind: 'folder', place, folder: first }
  return !isFolderUrl && idPattern.test(name) ? { kind: 'object', place, object: { folder: first, name } } : undefined
}

export function repositoryPath(root: string, { user, name }: RepositoryAt): string {
  return name === '' ? join(root, user) : join(root, user, ...name.split('/'))
}

/** In restic's layout, so that the repository can also be used where it lies. */
export function objectPath(root: string, place: RepositoryAt, { folder, name }: ObjectAt): string {
  const repository = repositoryPath(root, place)
  if (folder === 'config') return join(repository, 'config')
  return folder === 'data' ? join(repository, 'data', name.slice(0, 2), name) : join(repository, folder, name)
}
