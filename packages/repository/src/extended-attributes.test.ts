import { execFile, spawnSync } from 'node:child_process'
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { extendedAttributesKnown, readAttributes, writeAttributes } from './extended-attributes.ts'
import { fingerprint, hasTool, newRepository, reopen, restic, scratch, takeSnapshot } from './testing/testbed.ts'

const run = promisify(execFile)
const hasTools = ['setfattr', 'setfacl'].every((tool) => spawnSync(tool, ['--version']).error === undefined)
const isRoot = process.getuid?.() === 0
const tools = hasTools && extendedAttributesKnown()

/** What getfattr and getfacl tell of everything below a directory, links themselves included. */
async function attributesOf(directory: string): Promise<string> {
  const attributes = 'find . | LC_ALL=C sort | xargs -d "\\n" getfattr -h -d -m - -e hex 2>&1'
  const { stdout } = await run('sh', ['-c', `${attributes}; getfacl -R -n ./* 2>&1`], { cwd: directory })
  return stdout
}

async function makeAttributed(path: string): Promise<string> {
  await mkdir(join(path, 'below'), { recursive: true })
  await writeFile(join(path, 'file'), 'text')
  await writeFile(join(path, 'below', 'plain'), 'none')
  await writeFile(join(path, 'below', 'acl'), 'shared', { mode: 0o640 })
  await symlink('file', join(path, 'link'))
  await run('setfattr', ['-n', 'user.empty', join(path, 'file')])
  await run('setfattr', ['-n', 'user.bytes', '-v', '0x00ff0a22', join(path, 'file')])
  await run('setfattr', ['-n', 'user.größe', '-v', 'ü', join(path, 'below')])
  const raw = ': > "$(printf "raw\\377")" && setfattr -n user.raw -v bytes "$(printf "raw\\377")"'
  await run('sh', ['-c', raw], { cwd: path })
  await run('setfacl', ['-m', 'u:1234:rw,g:77:r', join(path, 'below', 'acl')])
  await run('setfacl', ['-d', '-m', 'u:99:rwx', join(path, 'below')])
  if (isRoot) {
    await run('setfattr', ['-n', 'trusted.secret', '-v', 'root only', join(path, 'below', 'acl')])
  }
  return path
}

describe.skipIf(!tools)('extended attributes [needs attr, acl]', () => {
  test.skipIf(!hasTool('restic'))('what we save restic restores, and the other way round [needs restic]', async () => {
    const home = await scratch()
    const source = await makeAttributed(join(home, 'source'))
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, source)
    expect(saved.errors).toEqual([])
    const expected = await attributesOf(source)
    expect(expected).toContain('user.bytes=0x00ff0a22')
    expect(expected).toContain('user:1234:rw-')
    expect(expected).toContain('default:user:99:rwx')
    expect(await repository.loadDirectory(saved.tree, join(home, 'ours'))).toMatchObject({ problems: [], skipped: [] })
    // The target itself is not in its tree.
    expect(await attributesOf(join(home, 'ours'))).toBe(expected)
    expect(await fingerprint(join(home, 'ours'))).toEqual(await fingerprint(source))
    await restic(join(home, 'repository'), 'restore', 'latest', '--target', join(home, 'theirs'))
    expect(await attributesOf(join(home, 'theirs', 'files'))).toBe(expected)

    await restic(join(home, 'repository'), 'backup', source)
    const again = await reopen(join(home, 'repository'))
    const latest = await again.findSnapshot('latest')
    const node = await again.resolve(latest.tree, source)
    if (node.type !== 'dir') throw new Error('not a directory')
    expect(node.subtree).toBe(saved.tree) // the same bytes, whoever saved it
    await again.loadDirectory(node.subtree, join(home, 'back'))
    expect(await attributesOf(join(home, 'back'))).toBe(expected)
  })

  test.skipIf(!isRoot)('of a link: its own, not those of what it leads to [needs root]', async () => {
    const home = await scratch()
    const source = await makeAttributed(join(home, 'source'))
    await run('setfattr', ['-h', '-n', 'trusted.link', '-v', 'of the link', join(source, 'link')])
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, source)
    await repository.loadDirectory(saved.tree, join(home, 'target'))
    expect(await attributesOf(join(home, 'target'))).toBe(await attributesOf(source))
    const target = Buffer.from(join(home, 'target', 'link'))
    expect(readAttributes(target).attributes.map(({ name }) => name)).toEqual(['trusted.link'])
  })

  test('what is there already gets exactly the attributes of the snapshot', async () => {
    const home = await scratch()
    const source = await makeAttributed(join(home, 'source'))
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, source)
    const expected = await attributesOf(source)
    const target = join(home, 'target')
    await repository.loadDirectory(saved.tree, target)
    await run('setfattr', ['-n', 'user.more', '-v', 'x', join(target, 'file')])
    await run('setfattr', ['-x', 'user.bytes', join(target, 'file')])
    await run('setfattr', ['-n', 'user.more', '-v', 'x', join(target, 'below', 'plain')])
    await run('setfacl', ['-b', join(target, 'below', 'acl')])
    const result = await repository.loadDirectory(saved.tree, target, { overwrite: 'if-changed' })
    expect(result).toMatchObject({ files: 4, unchanged: { files: 4 }, problems: [] })
    expect(await attributesOf(target)).toBe(expected)
  })

  test('a default ACL of the target is not left on what is restored into it', async () => {
    const home = await scratch()
    const repository = await newRepository(join(home, 'repository'))
    await mkdir(join(home, 'source', 'sub'), { recursive: true })
    await writeFile(join(home, 'source', 'file'), 'x', { mode: 0o644 })
    const { saved } = await takeSnapshot(repository, join(home, 'source'))
    await mkdir(join(home, 'target'))
    await run('setfacl', ['-d', '-m', 'u:99:rwx', join(home, 'target')])
    await repository.loadDirectory(saved.tree, join(home, 'target'))
    for (const name of ['file', 'sub']) {
      const { stdout } = await run('getfacl', ['-n', join(home, 'target', name)])
      expect(stdout, name).not.toContain('user:99')
    }
  })

  test('names that are not UTF-8: of directories they are saved, of files they are restored', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    const odd = Buffer.from('odd\xff', 'latin1')
    const at = (directory: string, name: Buffer) => Buffer.concat([Buffer.from(`${directory}/`), name])
    await mkdir(source)
    await mkdir(at(source, odd))
    await run('sh', ['-c', 'cd "$0" && setfattr -n user.x -v dir "$(printf "odd\\377")"', source])
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, source)
    const [node] = await repository.readTree(saved.tree)
    expect(node?.extendedAttributes).toEqual([{ name: 'user.x', value: Buffer.from('dir') }])
    const save = await repository.startSave()
    const { content, bytes } = await save.saveBytes(Buffer.from('text'))
    const extendedAttributes = [{ name: 'user.y', value: Buffer.from('file') }]
    const tree = await save.saveTree([{ name: 'odd\udcff', type: 'file', content, bytes, extendedAttributes }])
    await save.finish()
    await repository.loadDirectory(tree, join(home, 'target'))
    const read = 'cd "$0" && getfattr -d "$(printf "odd\\377")" 2>/dev/null'
    expect((await run('sh', ['-c', read, join(home, 'target')])).stdout).toContain('user.y="file"')
    expect(await readFile(at(join(home, 'target'), odd), 'utf8')).toBe('text')
  })

  test('what cannot be set is told, by path, and the content is restored', async () => {
    const home = await scratch()
    const repository = await newRepository(join(home, 'repository'))
    const save = await repository.startSave()
    const { content, bytes } = await save.saveBytes(Buffer.from('text'))
    const extendedAttributes = [
      { name: 'bogus.name', value: Buffer.from('x') },
      { name: 'user.large', value: Buffer.alloc(1 << 20) },
      { name: 'user.fine', value: Buffer.from('y') },
    ]
    const tree = await save.saveTree([{ name: 'file', type: 'file', content, bytes, extendedAttributes }])
    await save.finish()
    const all = await repository.loadDirectory(tree, join(home, 'all'), { onProblem: 'continue' })
    expect(all.problems.map(({ path, failure }) => [path, failure.code])).toEqual([
      ['file', 'attribute_not_restored'],
      ['file', 'attribute_not_restored'],
    ])
    expect(all.problems[0]?.failure.message).toContain('the file system does not take it')
    expect(await readFile(join(home, 'all', 'file'), 'utf8')).toBe('text')
    expect(readAttributes(Buffer.from(join(home, 'all', 'file'))).attributes.map(({ name }) => name)).toEqual([
      'user.fine',
    ])
    const stopping = await repository.loadDirectory(tree, join(home, 'stopping'))
    expect(stopping.skipped.map(({ path }) => path)).toEqual(['file', 'file'])
  })

  test('links are not followed, and file systems without attributes have none', async () => {
    const home = await scratch()
    await writeFile(join(home, 'file'), '')
    await symlink('file', join(home, 'link'))
    expect(writeAttributes(Buffer.from(join(home, 'file')), [{ name: 'user.a', value: Buffer.from('1') }])).toEqual([])
    expect(readAttributes(Buffer.from(join(home, 'link')))).toEqual({ attributes: [] })
    const [problem] = writeAttributes(Buffer.from(join(home, 'link')), [{ name: 'user.a', value: Buffer.from('2') }])
    expect(problem?.failure.message).toContain('permission denied') // links cannot have these
    expect(readAttributes(Buffer.from('/proc/version'))).toEqual({ attributes: [] })
    expect(readAttributes(Buffer.from(join(home, 'absent')))).toEqual({ attributes: [] })
  })

  test('capabilities survive the change of owner [needs root]', async () => {
    if (!isRoot) return
    const home = await scratch()
    await mkdir(join(home, 'source'))
    await writeFile(join(home, 'source', 'ping'), 'x', { mode: 0o755 })
    // cap_net_raw+ep, version 2
    await run('setfattr', [
      '-n',
      'security.capability',
      '-v',
      '0x0100000200200000000000000000000000000000',
      join(home, 'source', 'ping'),
    ])
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, join(home, 'source'))
    await repository.loadDirectory(saved.tree, join(home, 'target'))
    const [capability] = readAttributes(Buffer.from(join(home, 'target', 'ping'))).attributes
    expect(capability?.name).toBe('security.capability')
    expect((await stat(join(home, 'target', 'ping'))).mode & 0o777).toBe(0o755)
  })
})
