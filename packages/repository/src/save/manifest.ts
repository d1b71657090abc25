/** Owns manifests: what a directory held at a moment, without reading its files; a later save tells what changed since. */
import type { BigIntStats } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { type AnchoredDirectory, openAnchored } from '../anchored-directory.ts'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import { fingerprintOf } from './file-status.ts'

/** Fingerprints by path, relative to the directory, components joined by "/". */
export type DirectoryManifest = ReadonlyMap<string, string>

export interface ManifestOptions {
  readonly signal?: AbortSignal
  /** Paths for which it returns true are left out, directories with all that is in them. */
  readonly exclude?: (path: string) => boolean
}

/** @throws Failure `storage_failed`, `storage_denied` */
export async function takeManifest(path: string, options: ManifestOptions = {}): Promise<DirectoryManifest> {
  const manifest = new Map<string, string>()
  try {
    const root = await openAnchored(path)
    await collect(root, '', options, manifest)
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    throw storageFailure(error, 'looking at', path)
  }
  return manifest
}

async function collect(
  directory: AnchoredDirectory,
  prefix: string,
  options: ManifestOptions,
  manifest: Map<string, string>,
): Promise<void> {
  try {
    for (const name of await directory.names()) {
      options.signal?.throwIfAborted()
      const path = `${prefix}${name}`
      if (options.exclude?.(path) === true) continue
      const status = await statusOf(directory, name)
      if (status === undefined) continue
      manifest.set(path, fingerprintOf(status))
      if (status.isDirectory()) await collect(await directory.open(name), `${path}/`, options, manifest)
    }
  } finally {
    await directory.close()
  }
}

export interface ComparedWalk {
  readonly options: { readonly expect?: DirectoryManifest }
  readonly changed: Set<string>
}

/** What is there now is noted where it differs from what the manifest has, if there is one. */
export function compareWithManifest({ options, changed }: ComparedWalk, path: string, fingerprint: string): void {
  if (options.expect !== undefined && options.expect.get(path) !== fingerprint) changed.add(path)
}

/** Undefined where it has vanished since it was listed. */
export async function statusOf(
  directory: Pick<AnchoredDirectory, 'child'>,
  name: string,
): Promise<BigIntStats | undefined> {
  try {
    return await lstat(directory.child(name), { bigint: true })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}
