/** Owns taking the body of a server's answer into memory, so that no server decides how much that is. */

/** All bytes, at most `bytesMax`. @throws the stream's error, or Error where there are more */
export async function answerBytes(body: AsyncIterable<Buffer>, bytesMax: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  let length = 0
  for await (const piece of body) {
    length += piece.length
    if (length > bytesMax) throw new Error(`the answer is longer than ${bytesMax} bytes`)
    pieces.push(piece)
  }
  return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces, length)
}
