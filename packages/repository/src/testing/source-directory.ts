/** Owns a directory with files of many kinds and names, to be saved by us and by restic. */
import { execFile } from 'node:child_process'
import { link, mkdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { seeded } from './world.ts'

const run = promisify(execFile)

/** Fills it and returns its path. */
export async function makeSource(path: string): Promise<string> {
  await mkdir(join(path, 'below', 'deeper'), { recursive: true })
  await mkdir(join(path, 'empty'), { mode: 0o1777 })
  await writeFile(join(path, 'a'), 'hello')
  await writeFile(join(path, 'nothing'), '')
  await writeFile(join(path, 'below', 'large'), seeded(7).bytes(5_000_000))
  await writeFile(join(path, 'below', 'zeros'), Buffer.alloc(3_000_000))
  await writeFile(join(path, 'below', 'deeper', 'text'), 'line\n'.repeat(10_000), { mode: 0o4751 })
  await link(join(path, 'a'), join(path, 'below', 'another name of a'))
  await symlink('../<&>\u2028', join(path, 'below', 'link'))
  for (const name of [Buffer.from('bad\xff\xfe"\\\n', 'latin1'), Buffer.from('é\u2028\u{1f600}\u0085 <&>\x7f')]) {
    await writeFile(Buffer.concat([Buffer.from(`${path}/`), name]), 'odd')
  }
  await run('mkfifo', [join(path, 'fifo')])
  await utimes(join(path, 'nothing'), 1_900_000_000, new Date(-86_400_500))
  return path
}
