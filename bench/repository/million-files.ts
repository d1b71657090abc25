/**
 * `node bench/repository/million-files.ts [--files N] [--dir DIRECTORY]`: a first backup of very many small files, and one
 * of the unchanged tree, by every restic that is here and by this repository: time and peak memory. Needs about 10 GiB in DIRECTORY for
 * 1,000,000 files.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { installBuilt } from '../../scripts/install-built.ts'
import { makeData, tinyFiles } from './data.ts'
import { engineChoices, type Places } from './engines.ts'
import { measured } from './measured.ts'

const usage = `node bench/repository/million-files.ts [options]

  --files N         how many small files are backed up, a multiple of 100 (default: 1000000)
  --dir DIRECTORY   where they are made (default: the system's directory for temporary files)`

const { values } = parseArgs({
  options: { files: { type: 'string' }, dir: { type: 'string' }, help: { type: 'boolean' } },
})
if (values.help === true) {
  console.log(usage)
  process.exit(0)
}
const count = Number(values.files ?? 1_000_000)
if (!Number.isInteger(count / 100) || count < 100)
  throw new Error(`--files ${values.files}: a multiple of 100 is needed`)

const interrupted = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort(new Error(name)))
const directory = mkdtempSync(join(resolve(values.dir ?? tmpdir()), 'stillpoint-files-'))
try {
  const source = join(directory, 'source')
  const bytes = await makeData(tinyFiles(count), source)
  console.log(`${count} files, ${(bytes / 2 ** 20).toFixed(0)} MiB`)
  console.log('| engine | step | s | CPU s | peak MiB |\n|---|---|---:|---:|---:|')
  const choices = engineChoices.filter(({ name, isHere }) => isHere && name !== 'borg')
  for (const { name, engine: makeEngine } of choices) {
    const engine = makeEngine(() => installBuilt(join(directory, 'installed')))
    const home = join(directory, name)
    const at: Places = { home, repository: join(home, 'repository'), target: join(home, 'target'), source }
    const options = { scratch: home, signal: interrupted.signal }
    mkdirSync(at.target, { recursive: true })
    await measured(engine.init(at), options)
    for (const step of ['first backup', 'unchanged']) {
      const { seconds, cpuSeconds, memoryBytes } = await measured(engine.backup(at, step), options)
      const cells = [name, step, seconds.toFixed(1), cpuSeconds.toFixed(1), (memoryBytes / 2 ** 20).toFixed(0)]
      console.log(`| ${cells.join(' | ')} |`)
    }
    rmSync(home, { recursive: true })
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}
