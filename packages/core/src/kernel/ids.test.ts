import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isFailure } from './failure.ts'
import { type ChannelId, channelEnds, channelId, nameBytesMax, participantName } from './ids.ts'

function codeOf(run: () => unknown): string | undefined {
  try {
    run()
  } catch (error) {
    return isFailure(error) ? error.code : `threw ${String(error)}`
  }
  return undefined
}

describe('names of participants', () => {
  test.each(['a', 'A1', 'orders-db', 'a.b_c-d', '0', 'x'.repeat(nameBytesMax), 'constructor'])('%j is one', (name) => {
    expect(participantName(name)).toBe(name)
  })

  test.each([
    '',
    '.',
    '..',
    'a..b',
    '-a',
    'a-',
    '.hidden',
    'a.',
    '_a',
    'a b',
    'a/b',
    'a\\b',
    'a\n',
    'é',
    'a→b',
    'a#b',
    '__proto__',
    'x'.repeat(nameBytesMax + 1),
  ])('%j is none', (name) => {
    expect(codeOf(() => participantName(name))).toBe('name_invalid')
  })

  test('the failure shows the name, short and on one line, and what to do', () => {
    const long = `bad\n${'x'.repeat(200)}`
    try {
      participantName(long)
      expect.unreachable()
    } catch (error) {
      if (!isFailure(error)) throw error
      expect(error.message).toMatch(/^"bad\\nx+…" is not a valid name \(204 characters\)$/)
      expect(error.hint).toContain('1 to 64 letters')
    }
  })

  test('every name is one path segment, a file name on any system', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (text) => {
        if (codeOf(() => participantName(text)) !== undefined) return
        expect(text).toMatch(/^[A-Za-z0-9._-]+$/)
        expect(text).not.toContain('..')
      }),
      { numRuns: 500 },
    )
  })
})

describe('channels', () => {
  const names = fc.stringMatching(/^[a-z0-9](?:[a-z0-9_-]{0,10}[a-z0-9])?$/)
  const labels = fc.option(fc.stringMatching(/^[a-z0-9-]{1,32}$/), { nil: undefined })

  test('the ends of a channel are what it was made of', () => {
    fc.assert(
      fc.property(names, names, labels, (from, to, label) => {
        const channel = channelId(participantName(from), participantName(to), label)
        expect(channelEnds(channel)).toEqual(label === undefined ? { from, to } : { from, to, label })
      }),
    )
  })

  test('are written as people read them', () => {
    expect(channelId(participantName('a'), participantName('b'))).toBe('a→b')
    expect(channelId(participantName('a'), participantName('b'), 'orders')).toBe('a→b#orders')
  })

  test.each(['', 'A', 'a b', 'a#b', 'x'.repeat(33)])('%j is no label', (label) => {
    expect(codeOf(() => channelId(participantName('a'), participantName('b'), label))).toBe('name_invalid')
  })

  test.each(['', 'a', 'a→', '→b', 'a→b→c', 'a→b c', '../x→b', 'a→b#x#y', 'a→b#'])('%j is no channel', (text) => {
    expect(codeOf(() => channelEnds(text as ChannelId))).toBe('name_invalid')
  })
})
