/** Extended attributes and ACLs of a captured directory, through a real repository and back. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { extendedAttributesKnown, initRepository, openLocalStore, openRepository } from '@stillpoint/repository'
import { hasTool } from '@stillpoint/testbed'
import { afterAll, describe, expect, test } from 'vitest'
import { RepositorySink } from '../../agent/capture-sink.ts'
import { openStoredParts } from '../../agent/stored-parts.ts'
import { systemClock, systemEntropy, systemRandom } from '../../system-env.ts'
import { restoreDirectory, treePart } from './restore.ts'

const env = { clock: systemClock, random: systemRandom, entropy: systemEntropy }
const isPossible = hasTool('setfattr') && hasTool('setfacl') && extendedAttributesKnown()
const dir = mkdtempSync(join(tmpdir(), 'files-attributes-'))
afterAll(() => rmSync(dir, { recursive: true }))

function attributesOf(path: string): string {
  const command = 'getfattr -R -P -d -m - -e hex . && getfacl -R -n .'
  return execFileSync('sh', ['-c', command], { cwd: path, encoding: 'utf8' })
}

describe.skipIf(!isPossible)('attributes of files [needs attr, acl]', () => {
  test('those of the directory itself and of what is in it come back', async () => {
    const source = join(dir, 'source')
    mkdirSync(join(source, 'sub'), { recursive: true, mode: 0o755 })
    writeFileSync(join(source, 'sub', 'file'), 'x', { mode: 0o640 })
    execFileSync('setfattr', ['-n', 'user.root', '-v', 'of the root', source])
    execFileSync('setfacl', ['-d', '-m', 'u:1234:rx', source])
    execFileSync('setfattr', ['-n', 'user.file', '-v', '0x00ff', join(source, 'sub', 'file')])
    execFileSync('setfacl', ['-m', 'g:77:rw', join(source, 'sub', 'file')])
    const expected = attributesOf(source)
    expect(expected).toContain('default:user:1234:r-x')

    const store = openLocalStore(join(dir, 'repository'))
    await initRepository({ store, password: 'p', ...env, scryptCost: { n: 2 ** 10, r: 8, p: 1 } })
    const repository = await openRepository({ store, password: 'p', ...env })
    const save = await repository.startSave()
    const signal = AbortSignal.timeout(20_000)
    const sink = new RepositorySink({ save, signal, onProgress: () => undefined })
    await sink.directory(treePart, source, {})
    const { tree } = await sink.finish()
    await save.finish()
    const notes: string[] = []
    const parts = await openStoredParts(repository, tree, (text) => notes.push(text))
    await restoreDirectory(join(dir, 'restored'), parts, { replace: false }, signal)
    expect(notes).toEqual([])
    expect(attributesOf(join(dir, 'restored'))).toBe(expected)
  })
})
