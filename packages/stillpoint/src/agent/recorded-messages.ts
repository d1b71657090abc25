/**
 * The state of a channel as it is stored: one `RecordedMessage` as JSON per line, each line ended by a newline.
 *
 * Owns: what a line must hold. Used where lines come in from a process, and where a snapshot is verified.
 */
import type { RecordedMessage } from '@stillpoint/core'
import { type ChannelId, Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'

/** Longer than any message that an adapter takes: a line without an end must not fill the memory. */
export const lineBytesMax = 64 * 1024 * 1024

const messageSchema = z.strictObject({
  message: z.string().min(1).max(256),
  session: z.string().min(1).max(256),
  seq: z.int().min(1),
  epoch: z.int().min(0),
  kind: z.enum(['message', 'request', 'reply']),
  meta: z.record(z.string(), z.string()),
  encoding: z.enum(['utf8', 'base64']),
  payload: z.string(),
})

export type RecordedPlace = Pick<z.output<typeof messageSchema>, 'message' | 'session' | 'seq'>

/**
 * Passes the bytes on as they are, after each line in them was checked and shown to `onMessage`.
 * @throws Failure `recorded_message_invalid` naming channel and line
 */
export async function* readRecordedMessages(
  stream: AsyncIterable<Uint8Array>,
  channel: ChannelId,
  onMessage: (message: RecordedPlace) => void,
): AsyncGenerator<Uint8Array> {
  let rest: Uint8Array[] = []
  let restBytes = 0
  let line = 1
  for await (const piece of stream) {
    let from = 0
    for (let end = piece.indexOf(0x0a); end !== -1; end = piece.indexOf(0x0a, from)) {
      onMessage(parseLine(Buffer.concat([...rest, piece.subarray(from, end)]), channel, line))
      rest = []
      restBytes = 0
      line += 1
      from = end + 1
    }
    if (from < piece.length) {
      // A copy: the stream may reuse its buffer.
      rest.push(Uint8Array.from(piece.subarray(from)))
      restBytes += piece.length - from
    }
    if (restBytes > lineBytesMax) throw invalid(channel, line, `is longer than ${lineBytesMax} bytes`)
    yield piece
  }
  if (restBytes > 0) throw invalid(channel, line, 'does not end: the upload was cut short')
}

function parseLine(bytes: Uint8Array, channel: ChannelId, line: number): RecordedPlace {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw invalid(channel, line, 'is not JSON in UTF-8', cause)
  }
  const parsed = messageSchema.safeParse(value)
  if (parsed.success) return parsed.data satisfies Record<keyof RecordedMessage, unknown>
  const issue = parsed.error.issues[0]
  throw invalid(channel, line, `is not a recorded message: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`)
}

function invalid(channel: ChannelId, line: number, what: string, cause?: unknown): Failure {
  const message = `Line ${line} of the state of ${channel} ${what}`
  return new Failure({ code: 'recorded_message_invalid', message, cause })
}
