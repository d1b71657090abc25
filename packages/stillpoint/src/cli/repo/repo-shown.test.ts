/** What `stillpoint repo` takes out of a repository, and how it shows it: archives, parts, tables, JSON, failures. */
import { execFile } from 'node:child_process'
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { run } from '../workbench.ts'
import { linesOf, makeBench, type RepoBench } from './repo-workbench.ts'

const runFile = promisify(execFile)
let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

describe('reading', () => {
  test('a directory as a zip archive, to a file that was not there', async () => {
    await bench.ok('backup', 'source')
    await bench.ok('dump', '--archive', 'zip', '--target', 'all.zip', 'latest', '/source')
    const zip = join(bench.directory, 'all.zip')
    expect((await stat(zip)).mode & 0o777).toBe(0o600)
    expect((await runFile('unzip', ['-p', zip, 'below/deeper/c.txt'])).stdout).toBe('deep')
    expect((await runFile('unzip', ['-t', zip])).stdout).toContain('No errors')
    const again = await bench.ours('dump', '-a', 'zip', '-t', 'all.zip', 'latest', '/source')
    expect(again).toMatchObject({ code: 1, stdout: '' })
    await bench.ok('dump', '--target', 'a.txt', 'latest', '/source/a.txt')
    expect(await readFile(join(bench.directory, 'a.txt'), 'utf8')).toBe('hello')
    expect((await bench.ours('dump', '-t', 'half', 'latest', '/source/below/link')).code).toBe(1)
    expect(await readdir(bench.directory)).not.toContain('half')
  })

  test('restore: patterns from files, and restic’s JSON', async () => {
    await writeFile(join(bench.directory, 'wanted'), '# a comment\n*.LOG\n')
    const lines = await bench.json(
      'restore',
      'latest',
      '-t',
      'part',
      '--iinclude-file',
      'wanted',
      '--sparse',
      '--verbose=2',
    )
    expect(await readdir(join(bench.directory, 'part/source/below'))).toEqual(['b.log'])
    const item = '/source/below/b.log'
    expect(lines).toContainEqual({ message_type: 'verbose_status', action: 'restored', item, size: 8000 })
    const summary = { message_type: 'summary', seconds_elapsed: expect.any(Number), files_restored: 3, total_files: 3 }
    expect(lines.at(-1)).toMatchObject(summary)
    await bench.ok('restore', 'latest', '-t', 'rest', '--exclude-file', 'wanted', '--exclude', 'below')
    expect(await readdir(join(bench.directory, 'rest/source'))).not.toContain('below')
  })

  test('shown otherwise: compact, in units, with packs', async () => {
    expect(await bench.ok('snapshots', '--compact')).not.toContain(bench.source)
    expect(await bench.ok('forget', '--keep-last', '100', '-c', '--dry-run')).not.toContain('Reasons')
    expect(await bench.ok('ls', '-l', '--human-readable', 'latest', '/source/below')).toContain('7.8 KiB')
    expect(await bench.ok('find', '-l', '--human-readable', '*.log')).toContain('7.8 KiB')
    const [blob = ''] = (await bench.ok('list', 'blobs')).split('\n').filter((line) => line.startsWith('data '))
    const [found] = (await bench.json('find', '--blob', blob.slice(5), '--show-pack-id')) as [readonly object[]]
    expect(found[0]).toMatchObject({ object_type: 'blob', packs: [expect.stringMatching(/^[0-9a-f]{64}$/)] })
    const [stats] = await bench.json('stats', '--mode', 'raw-data')
    expect(stats).toMatchObject({ compression_ratio: expect.any(Number), compression_progress: expect.any(Number) })
  })
})

describe('failures', () => {
  test('are told in restic’s JSON', async () => {
    const { code, stdout, stderr } = await run(bench.directory, ['repo', '--json', 'snapshots', '-r', 'nowhere'])
    expect([code, stdout]).toEqual([10, ''])
    const error = { code: 'repository_absent' }
    expect(linesOf(stderr)).toMatchObject([
      { message_type: 'exit_error', code: 10, message: expect.any(String), error },
    ])
  })

  test('damage is named by check', async () => {
    const sound = (await bench.json('check', '--with-cache')).at(-1)
    expect(sound).toMatchObject({ message_type: 'summary', num_errors: 0, broken_packs: null })
    const data = join(bench.directory, 'repository', 'data')
    const names = (await readdir(data, { recursive: true })).filter((name) => /[0-9a-f]{64}$/.test(name))
    for (const name of names) {
      const bytes = await readFile(join(data, name))
      bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20)
      await chmod(join(data, name), 0o600)
      await writeFile(join(data, name), bytes)
    }
    const checked = await bench.ours('check', '--read-data', '--json')
    expect(checked.code).toBe(1)
    const errors = linesOf(checked.stderr).slice(0, -1)
    expect(linesOf(checked.stderr).at(-1)).toMatchObject({ message_type: 'exit_error', code: 1 })
    expect(errors[0]).toMatchObject({ message_type: 'error', message: expect.any(String) })
    const ids = names.map((name) => name.slice(-64)).sort()
    expect(linesOf(checked.stdout).at(-1)).toMatchObject({ num_errors: errors.length, broken_packs: ids })
  })
})
