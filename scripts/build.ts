/**
 * `npm run build`: what is published, in `packages/*\/dist`: JavaScript, types, and a package.json that points at them.
 * In development nothing is built. With a directory as its argument, it is put there instead, a folder for each package:
 * several may be building at a time.
 *
 * The JavaScript of a package is bundled, since to find and read two hundred files takes longer than what a short
 * command does. Invariants: 1. What is another package's stays an import of it. 2. What is imported lazily is a file of
 * its own, and what several need is one that they share: nothing is there twice. 3. All files are in one folder, so that
 * `new URL('./worker.js', import.meta.url)` is the same file wherever the code that says so has come to be.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type CodeSplittingGroup } from 'rolldown'

const root = fileURLToPath(new URL('..', import.meta.url))
const published = ['core', 'repository', 'sdk', 'stillpoint'] as const

const [into] = process.argv.slice(2)
const placeOf = (name: string) => (into === undefined ? join(root, 'packages', name, 'dist') : resolve(into, name))

interface Manifest {
  readonly exports: Readonly<Record<string, string>>
  readonly bin?: Readonly<Record<string, string>>
}

/**
 * To find, read and link one more file costs a millisecond: what is loaded together is together. What the command needs
 * before it knows which command it is, and what most subcommands of one group share.
 */
const groups: readonly CodeSplittingGroup[] = [
  { name: 'command', test: /\/src\/cli\//, tags: ['$initial'] },
  { name: 'repo-shared', test: /\/src\/cli\/repo\//, minShareCount: 3 },
]
/** In a command's file: where its program is. */
const commandImport = /import\('(\.\.\/src\/([\w-]+)\.ts)'\)/
/** In any file: a program that it starts, as a thread or a process, by a URL that ends with .ts here and with .js there. */
const startedByUrl = /new URL\([^\n]*?['"`]\.\/([\w-]+)(?:\.ts['"]|\$\{)/g

const scratch = mkdtempSync(join(tmpdir(), 'stillpoint-build-'))
try {
  declareTypes(scratch)
  for (const name of published) await assemble(name, scratch)
} finally {
  rmSync(scratch, { recursive: true, force: true })
}

function declareTypes(outDir: string): void {
  const entries = published.flatMap((name) => sourcesOf(join(root, 'packages', name, 'src')))
  const config = join(root, 'tsconfig.json')
  const project = join(outDir, 'tsconfig.json')
  const compilerOptions = {
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
    rootDir: join(root, 'packages'),
    outDir,
    typeRoots: [join(root, 'node_modules/@types')],
  }
  writeFileSync(project, JSON.stringify({ extends: config, compilerOptions, include: [], files: entries }))
  const { status } = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', project], { stdio: 'inherit', cwd: root })
  if (status !== 0) throw new Error('tsc failed')
}

function sourcesOf(dir: string): readonly string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter(
      (path) => path.endsWith('.ts') && !/\.test\.ts$|(workbench|testbed)\.ts$|(^|\/)(testing|torture)\//.test(path),
    )
    .map((path) => join(dir, path))
}

async function assemble(name: string, declared: string): Promise<void> {
  const home = join(root, 'packages', name)
  const dist = placeOf(name)
  const manifest = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as Manifest
  rmSync(dist, { recursive: true, force: true })
  await bundle(home, manifest, dist)
  cpSync(join(declared, name, 'src'), join(dist, 'types'), { recursive: true })
  for (const file of ['README.md', 'bin']) {
    if (existsSync(join(home, file))) cpSync(join(home, file), join(dist, file), { recursive: true })
  }
  cpSync(join(root, 'LICENSE'), join(dist, 'LICENSE'))
  if (!existsSync(join(dist, 'README.md'))) cpSync(join(root, 'README.md'), join(dist, 'README.md'))
  for (const path of Object.values(manifest.bin ?? {})) {
    const file = join(dist, path)
    writeFileSync(file, readFileSync(file, 'utf8').replace(commandImport, "import('../lib/$2.js')"))
  }
  const exports = Object.fromEntries(
    Object.entries(manifest.exports).map(([path, source]) => {
      const types = source.replace(/^\.\/src\/(.*)\.ts$/, './types/$1.d.ts')
      return [path, { types, default: `./lib/${entryName(path)}.js` }]
    }),
  )
  writeFileSync(join(dist, 'package.json'), `${JSON.stringify({ ...manifest, exports }, null, 2)}\n`)
  console.log(relative(root, dist))
}

/** Plain and readable, so that stack traces say something. */
async function bundle(home: string, manifest: Manifest, dist: string): Promise<void> {
  const { output } = await build({
    input: entriesOf(home, manifest),
    platform: 'node',
    external: (id) => !id.startsWith('.') && !id.startsWith('/'),
    output: {
      dir: join(dist, 'lib'),
      format: 'esm',
      entryFileNames: '[name].js',
      chunkFileNames: '[name].js',
      minifyInternalExports: false,
      codeSplitting: { groups: [...groups] },
    },
    logLevel: 'warn',
  })
  // Invariant 1, and with it the licences of others: nothing of theirs is in what we give out. What begins with NUL is
  // the bundler's own: how it names a module's exports.
  const modules = output.flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []))
  const foreign = modules.filter((id) => !id.startsWith(join(home, 'src/')) && !id.startsWith('\0rolldown/'))
  if (foreign.length > 0) throw new Error(`the bundle of ${home} has what is not its own: ${foreign.join(', ')}`)
}

/** What others find by its name, by that name: exports, the program of the command, and what is started by its URL. */
function entriesOf(home: string, manifest: Manifest): Record<string, string> {
  const entries: Record<string, string> = {}
  const add = (name: string, file: string) => {
    if (!existsSync(file)) throw new Error(`${file} is named as an entry, and is not there`)
    if ((entries[name] ?? file) !== file) throw new Error(`two entries have one name: ${file} and ${entries[name]}`)
    entries[name] = file
  }
  for (const [path, source] of Object.entries(manifest.exports)) add(entryName(path), join(home, source))
  for (const path of Object.values(manifest.bin ?? {})) {
    const command = resolve(home, path)
    const [, program] = commandImport.exec(readFileSync(command, 'utf8')) ?? []
    if (program === undefined) throw new Error(`${command} imports no program`)
    add(basename(program, '.ts'), resolve(dirname(command), program))
  }
  for (const source of sourcesOf(join(home, 'src'))) {
    for (const [, name = ''] of readFileSync(source, 'utf8').matchAll(startedByUrl)) {
      add(name, join(dirname(source), `${name}.ts`))
    }
  }
  return entries
}

/** `.` is `index`, `./kernel` is `kernel`. */
function entryName(path: string): string {
  return path === '.' ? 'index' : path.slice(2)
}
