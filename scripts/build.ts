/**
 * `npm run build`: what is published, in `packages/*\/dist`: JavaScript, types, and a package.json that points at them.
 * In development nothing is built.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const published = ['core', 'repository', 'sdk', 'stillpoint'] as const

const scratch = mkdtempSync(join(tmpdir(), 'stillpoint-build-'))
try {
  compile(scratch)
  for (const name of published) assemble(name, scratch)
} finally {
  rmSync(scratch, { recursive: true, force: true })
}

function compile(outDir: string): void {
  const entries = published.flatMap((name) => sourcesOf(join(root, 'packages', name, 'src')))
  const config = join(root, 'tsconfig.json')
  const project = join(outDir, 'tsconfig.json')
  const compilerOptions = {
    noEmit: false,
    declaration: true,
    rootDir: join(root, 'packages'),
    outDir,
    typeRoots: [join(root, 'node_modules/@types')],
  }
  writeFileSync(project, JSON.stringify({ extends: config, compilerOptions, include: [], files: entries }))
  const { status } = spawnSync('tsc', ['-p', project], { stdio: 'inherit', cwd: root })
  if (status !== 0) throw new Error('tsc failed')
}

function sourcesOf(dir: string): readonly string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter(
      (path) => path.endsWith('.ts') && !/\.test\.ts$|(workbench|testbed)\.ts$|(^|\/)(testing|torture)\//.test(path),
    )
    .map((path) => join(dir, path))
}

function assemble(name: string, compiled: string): void {
  const home = join(root, 'packages', name)
  const dist = join(home, 'dist')
  rmSync(dist, { recursive: true, force: true })
  cpSync(join(compiled, name, 'src'), join(dist, 'src'), { recursive: true })
  for (const file of ['README.md', 'bin']) {
    if (existsSync(join(home, file))) cpSync(join(home, file), join(dist, file), { recursive: true })
  }
  cpSync(join(root, 'LICENSE'), join(dist, 'LICENSE'))
  if (!existsSync(join(dist, 'README.md'))) cpSync(join(root, 'README.md'), join(dist, 'README.md'))
  const entry = join(dist, 'bin', 'stillpoint.js')
  if (existsSync(entry)) writeFileSync(entry, readFileSync(entry, 'utf8').replace('../src/main.ts', '../src/main.js'))
  const manifest = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as { exports: Record<string, string> }
  const exports = Object.fromEntries(
    Object.entries(manifest.exports).map(([path, source]) => {
      const base = source.replace(/\.ts$/, '')
      return [path, { types: `${base}.d.ts`, default: `${base}.js` }]
    }),
  )
  writeFileSync(join(dist, 'package.json'), `${JSON.stringify({ ...manifest, exports }, null, 2)}\n`)
  console.log(`packages/${name}/dist`)
}
