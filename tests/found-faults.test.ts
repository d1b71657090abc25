/** docs/verification.md lists the faults that the judges found, each with the test that keeps it: the tests are there. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const page = readFileSync(join(root, 'docs', 'verification.md'), 'utf8')

interface Found {
  readonly fault: string
  readonly file: string
  readonly names: readonly string[]
}

/** Rows whose last cell is a file and the names of tests in it: `path`: *name*, *name*. */
function foundIn(text: string): readonly Found[] {
  const section = text.slice(text.indexOf('## What the judges have found'), text.indexOf('## Bounds'))
  return section.split('\n').flatMap((line): readonly Found[] => {
    const cells = line.split('|').map((cell) => cell.trim())
    const [, file] = /^`([^`]+\.test\.ts)`: \*/.exec(cells.at(-2) ?? '') ?? []
    const names = [...(cells.at(-2) ?? '').matchAll(/\*([^*]+)\*/g)].map(([, name = '']) => name)
    return file === undefined ? [] : [{ fault: cells[1] ?? '', file, names }]
  })
}

/** The titles of the tests and groups of a file. */
function titlesIn(source: string): ReadonlySet<string> {
  const pattern = /\b(?:test|describe)(?:\.each\((?:[^()]|\([^()]*\))*\))?\(\s*'((?:[^'\\]|\\.)*)'/g
  return new Set([...source.matchAll(pattern)].map(([, title = '']) => title.replaceAll("\\'", "'")))
}

const found = foundIn(page)

describe('each fault that the judges found is kept by a test', () => {
  test('there are as many as the page has rows', () => {
    const section = page.slice(page.indexOf('## What the judges have found'), page.indexOf('## Bounds'))
    const rows = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| found'))
    expect(found.map(({ fault }) => fault)).toEqual(rows.map((row) => row.split('|')[1]?.trim()))
    expect(found.length).toBeGreaterThan(15)
  })

  test.each(found)('$fault', ({ file, names }) => {
    expect(existsSync(join(root, file))).toBe(true)
    const titles = titlesIn(readFileSync(join(root, file), 'utf8'))
    expect(names.length).toBeGreaterThan(0)
    expect(names.filter((name) => !titles.has(name))).toEqual([])
  })

  test('a name that is not there is noticed', () => {
    expect(titlesIn("test('one', () => {})\n  test.each([[1, (2)]])('two %s', () => {})")).toEqual(
      new Set(['one', 'two %s']),
    )
    const page = '## What the judges have found\n| a | b | `x.test.ts`: *one*, *two* |\n| c | d | none |\n## Bounds'
    expect(foundIn(page)).toEqual([{ fault: 'a', file: 'x.test.ts', names: ['one', 'two'] }])
  })
})
