/** Small parts, whole in memory, with a bound. */
import { Failure } from '@stillpoint/core/kernel'

/** @throws Failure `part_too_large` */
export async function collectText(content: AsyncIterable<Uint8Array>, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of content) {
    bytes += chunk.length
    if (bytes > bytesMax) {
      throw new Failure({
        code: 'part_too_large',
        message: `more than ${bytesMax} bytes where a small text is expected`,
        hint: 'The part is damaged, or not what its name says.',
      })
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
