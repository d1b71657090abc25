import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const withoutProc = ['--mount', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh']
const canMount = process.platform === 'linux' && spawnSync('unshare', [...withoutProc, 'true']).status === 0

test.skipIf(!canMount)(
  'without /proc nothing is opened, and it is told what is missing [needs root that may mount]',
  () => {
    const module = JSON.stringify(fileURLToPath(new URL('./anchored-directory.ts', import.meta.url)))
    const program = `
    import { fstatSync } from 'node:fs'
    import { holdDirectory, openAnchored } from ${module}
    const directory = ${JSON.stringify(tmpdir())}
    const failed = [await openAnchored(directory).catch((error) => error)]
    try { holdDirectory(directory) } catch (error) { failed.push(error) }
    const isOpen = (fd) => { try { return fstatSync(fd).isDirectory() } catch { return false } }
    const open = Array.from({ length: 64 }, (_, fd) => fd).filter(isOpen)
    console.log(JSON.stringify([failed.map(({ code, hint }) => [code, hint]), open]))`
    const node = [process.execPath, '--input-type=module-typescript', '-e', program]
    const { stdout, stderr } = spawnSync('unshare', [...withoutProc, ...node], { encoding: 'utf8' })
    const told = ['proc_missing', 'Mount it: mount -t proc proc /proc']
    expect([stderr, JSON.parse(stdout)]).toEqual(['', [[told, told], []]])
  },
)
