/**
 * The state of a channel as it is stored: one `RecordedMessage` as JSON per line, each line ended by a newline.
 *
 * Owns: what a line must hold. Used where lines come in from a process, and where a snapshot is verified.
 */
import { parseFrame, type RecordedMessage, readRecordedMessage } from '@stillpoint/core'
import { type ChannelId, Failure } from '@stillpoint/core/kernel'

/** Longer than any message that an adapter takes: a line without an end must not fill the memory. */
export const lineBytesMax = 64 * 1024 * 1024

export type RecordedPlace = Pick<RecordedMessage, 'message' | 'session' | 'seq'>

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

function parseLine(bytes: Uint8Array, channel: ChannelId, line: number): RecordedMessage {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return parseFrame(text, readRecordedMessage, 'recorded message')
  } catch (cause) {
    throw invalid(
      channel,
      line,
      `is not a recorded message: ${cause instanceof Error ? cause.message : String(cause)}`,
      cause,
    )
  }
}

function invalid(channel: ChannelId, line: number, what: string, cause?: unknown): Failure {
  const message = `Line ${line} of the state of ${channel} ${what}`
  return new Failure({ code: 'recorded_message_invalid', message, cause })
}
