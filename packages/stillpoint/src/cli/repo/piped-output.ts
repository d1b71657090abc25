/** Content as it is, on stdout: bytes, so not through the output of text. */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { CommandSession } from '../session.ts'

/** As fast as it is read; a reader that goes away has seen enough. @throws what `content` does */
export async function writeToStdout({ output }: CommandSession, content: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    await pipeline(Readable.from(content, { objectMode: false }), process.stdout, { end: false })
  } catch (error) {
    const isGone = error instanceof Error && 'code' in error && error.code === 'EPIPE'
    if (!isGone && !output.terminal.stdout.closed) throw error
  }
}
