/** Documents against the code: what is generated is up to date, and every failure has its entry in docs/errors.md. */
import { execFile } from 'node:child_process'
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { exitCodeOf, exitCodes } from './exit-codes.ts'

const root = fileURLToPath(new URL('../../../..', import.meta.url))
/** Codes of zod's issues and of nothing that a user sees. */
const notFailures = new Set(['custom'])

/** `code: 'a'`, and `code: condition ? 'a' : 'b'`. */
const codePattern = /\bcode:\s+(?:[^'\n,;{}]*\?\s*)?'([a-z]+(?:_[a-z]+)*)'(?:\s*:\s*'([a-z]+(?:_[a-z]+)*)')?/g

function codesIn(source: string): readonly string[] {
  return [...source.matchAll(codePattern)].flatMap(([, first, second]) =>
    [first, second].filter((code) => code !== undefined),
  )
}

async function sourceTexts(): Promise<readonly string[]> {
  const texts: string[] = []
  for await (const path of glob('packages/*/src/**/*.ts', { cwd: root })) {
    // The simulator's worlds fail in ways that no user meets.
    if (!path.endsWith('.test.ts') && !path.startsWith('packages/simulator/'))
      texts.push(await readFile(join(root, path), 'utf8'))
  }
  return texts
}

describe('docs/errors.md', async () => {
  const texts = await sourceTexts()
  const document = await readFile(join(root, 'docs/errors.md'), 'utf8')
  const documented = [...document.matchAll(/^\| `([a-z_]+)` \|/gm)].map(([, code = '']) => code)

  test('the pattern finds the codes of a failure', () => {
    const found = codesIn("{ code: 'one_two', message } { code: full ? 'three' : 'four', x } { errorcode: 'not' }")
    expect(found).toEqual(['one_two', 'three', 'four'])
  })

  test('explains every code of a failure', () => {
    const used = new Set(texts.flatMap(codesIn))
    expect(used.size).toBeGreaterThan(100)
    expect([...used].filter((code) => !documented.includes(code) && !notFailures.has(code))).toEqual([])
  })

  test('explains no code that is no more, and none twice', () => {
    const all = texts.join('\n')
    expect(documented.filter((code) => !all.includes(`'${code}'`))).toEqual([])
    expect(documented.filter((code, index) => documented.indexOf(code) !== index)).toEqual([])
  })

  test('names the exit code of each failure that has one of its own', () => {
    const rows = document.split('\n').filter((line) => line.startsWith('| `'))
    for (const row of rows) {
      const code = /^\| `([a-z_]+)`/.exec(row)?.[1] ?? ''
      const said = /[Ee]xit code (\d+)/.exec(row)?.[1]
      const actual = exitCodeOf(new Failure({ code, message: '' }))
      const usual: readonly number[] = [exitCodes.failed, exitCodes.usage]
      if (said !== undefined) expect(`${code} ${actual}`).toBe(`${code} ${said}`)
      else expect(usual, code).toContain(actual)
    }
  })
})

test('what is generated is what the code says', async () => {
  const script = join(root, 'scripts/generate-docs.ts')
  const { stderr } = await promisify(execFile)(process.execPath, [script, '--check'], { cwd: root })
  expect(stderr).toBe('')
})
