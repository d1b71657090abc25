/**
 * Owns reading a JSON array as it arrives, some elements at a time: the list of a repository with a million packs is a
 * document of 90 MB, of which neither the text nor the objects are to be in memory at once.
 *
 * Invariant: what is given out is what `JSON.parse` of the whole document gives; where that would throw, this throws at
 * last, after it may have given out what came before.
 */

const batchBytesMin = 64 << 10
/** No server decides how much memory it takes. */
const elementBytesMax = 16 << 20
const [quote, backslash, comma] = [0x22, 0x5c, 0x2c]
const [bracketOpen, bracketClose, braceOpen, braceClose] = [0x5b, 0x5d, 0x7b, 0x7d]

/** None of `null`. @throws SyntaxError where it is no array, and the errors of the body */
export async function* jsonElements(body: AsyncIterable<Buffer>): AsyncGenerator<readonly unknown[]> {
  let waiting = Buffer.alloc(0)
  let isFirst = true
  // Of the bytes that were looked at: brackets that are open, whether within a string, and right behind a backslash.
  let [depth, inString, isEscaped] = [0, false, false]
  for await (const piece of body) {
    /** Behind the last comma between elements, in this piece. */
    let cut = 0
    for (let at = 0; at < piece.length; at += 1) {
      const byte = piece[at]
      if (isEscaped) isEscaped = false
      else if (inString) {
        if (byte === backslash) isEscaped = true
        else if (byte === quote) inString = false
      } else if (byte === quote) inString = true
      else if (byte === bracketOpen || byte === braceOpen) depth += 1
      else if (byte === bracketClose || byte === braceClose) depth -= 1
      else if (byte === comma && depth === 1) cut = at + 1
    }
    if (cut > 0 && waiting.length + cut >= batchBytesMin) {
      // Without the comma, and closed.
      yield parsed([waiting, piece.subarray(0, cut - 1)], { isFirst, isLast: false })
      waiting = Buffer.from(piece.subarray(cut))
      isFirst = false
    } else waiting = Buffer.concat([waiting, piece])
    if (waiting.length > elementBytesMax + batchBytesMin) throw new SyntaxError('an element that has no end')
  }
  const last = parsed([waiting], { isFirst, isLast: true })
  if (last.length > 0) yield last
}

interface Part {
  readonly isFirst: boolean
  readonly isLast: boolean
}

function parsed(pieces: readonly Buffer[], { isFirst, isLast }: Part): readonly unknown[] {
  const text = Buffer.concat(pieces).toString('utf8')
  const value: unknown = JSON.parse(`${isFirst ? '' : '['}${text}${isLast ? '' : ']'}`)
  if (value === null && isFirst && isLast) return [] // as Go writes an empty list
  if (!Array.isArray(value)) throw new SyntaxError('it is no array')
  if (value.length === 0 && !(isFirst && isLast)) throw new SyntaxError('a comma with nothing beside it')
  return value
}
