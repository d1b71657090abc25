/** Owns reading a file's content in order. */
import type { BlobId } from '../format/ids.ts'
import type { Vault } from '../vault.ts'
import { readBlob } from './blob-reader.ts'

/** One piece per blob, each verified. The next is fetched while the caller works on the last. */
export async function* readFile(
  vault: Vault,
  node: { readonly content: readonly BlobId[] },
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const fetch = (id: BlobId | undefined) => {
    if (id === undefined) return undefined
    const blob = readBlob(vault, id, 'data')
    blob.catch(() => undefined) // reported when its turn comes; a caller that stops early need not hear of it
    return blob
  }
  let next = fetch(node.content[0])
  for (let at = 0; next !== undefined; at += 1) {
    signal?.throwIfAborted()
    const piece = await next
    next = fetch(node.content[at + 1])
    yield piece
  }
}
