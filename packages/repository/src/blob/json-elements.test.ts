import fc from 'fast-check'
import { expect, test } from 'vitest'
import { jsonElements } from './json-elements.ts'

async function elementsOf(json: string, pieceBytes: number): Promise<unknown> {
  const bytes = Buffer.from(json)
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
  }
  const found: unknown[] = []
  try {
    for await (const batch of jsonElements(pieces())) found.push(...batch)
    return found
  } catch (error) {
    if (error instanceof Error) return 'refused'
    throw error
  }
}

function wholeOf(json: string): unknown {
  try {
    const value: unknown = JSON.parse(json)
    return Array.isArray(value) ? value : value === null ? [] : 'refused'
  } catch {
    return 'refused'
  }
}

const long = `"${'x'.repeat(70_000)}"`

test('gives what the whole document is, however it arrives', async () => {
  const element = fc.oneof(
    fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
    fc.constant(long),
  )
  const document = fc.tuple(fc.array(element, { maxLength: 8 }), fc.constantFrom(',', ' ,\n'))
  await fc.assert(
    fc.asyncProperty(document, fc.integer({ min: 1, max: 100_000 }), async ([elements, between], pieceBytes) => {
      const json = `[${elements.join(between)}]`
      expect(await elementsOf(json, pieceBytes)).toEqual(wholeOf(json))
    }),
    { numRuns: 30 },
  )
})

test.each([
  ['nothing', ''],
  ['null', 'null'],
  ['an empty array', ' [ ] '],
  ['an object', '{"a":[1]}'],
  ['a string', '"[]"'],
  ['an end that is missing', `[${long},${long}`],
  ['an end that is missing behind a comma', `[${long},`],
  ['a comma too many', `[${long},]`],
  ['a comma too many at the start', `[,${long},1]`],
  ['two commas', `[${long},,1]`],
  ['two commas far apart', `[1,${' '.repeat(70_000)},1]`],
  ['a comma far from the start', `[${' '.repeat(70_000)},1]`],
  ['something behind it', `[${long},1] 2`],
  ['another array behind it', `[${long}],[1]`],
  ['brackets that do not fit', `[${long},1}`],
  ['brackets in strings', `["]","\\"[,",${long},"\\\\"]`],
  ['one bracket too many', `[${long},1]]`],
])('%s', async (_, json) => {
  for (const pieceBytes of [1000, 70_010, 1 << 20]) expect(await elementsOf(json, pieceBytes)).toEqual(wholeOf(json))
})

test('an element without end does not fill the memory', async () => {
  expect(await elementsOf(`["${'x'.repeat(17 << 20)}"]`, 1 << 20)).toBe('refused')
})
