/** The benchmark of large repositories does what it says, on a small one: with real processes, and the real restic. */
import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'

const run = promisify(execFile)
const root = join(fileURLToPath(new URL('.', import.meta.url)), '..')
const script = join(root, 'bench', 'repository', 'ten-million-blobs.ts')
const hasTools = ['restic', '/usr/bin/time'].every((tool) => spawnSync(tool, ['--version']).error === undefined)

describe.skipIf(!hasTools)('bench/repository/ten-million-blobs.ts [needs restic]', () => {
  test('makes a repository that both engines take for sound', async () => {
    const steps = 'open,list,backup,check,prune,subset,remember,budget,restic-backup,restic-check'
    const { stdout } = await run(process.execPath, [script, '--blobs', '3000', '--steps', steps])
    const lines = stdout.trim().split('\n').slice(1)
    expect(lines).toHaveLength(steps.split(',').length)
    for (const [at, pattern] of [
      /^open .* MiB {2}3002 blobs in 202 packs, \d+\.\d bytes of index per blob$/,
      /^list .* 1 snapshots$/,
      /^backup .* 201 files; 1 index file of \d+ bytes written, 3 left as they were$/,
      /^check .* 0 problems$/,
      /^prune .* 0 unused$/,
      /^subset .* 1 of 204 packs read$/,
      /^remember .* 204 packs$/,
      /^budget .* 20[34] of 204 packs read within 30 days$/,
      /^restic-backup .* snapshot [0-9a-f]{8} saved$/,
      /^restic-check .* no errors were found$/,
    ].entries()) {
      expect(lines[at]).toMatch(pattern)
    }
  })
})
