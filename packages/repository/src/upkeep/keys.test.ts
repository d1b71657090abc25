import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newerResticName, restics } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { openLocalStore } from '../blob/local-store.ts'
import { openMemoryStore } from '../blob/memory-store.ts'
import { openRepository } from '../repository.ts'
import { inMemory } from '../testing/prunable.ts'
import { newRepository, password, resticOf, scratch, scryptCost, world } from '../testing/testbed.ts'

const openWith = async (objects: Map<string, Buffer>, secret: string) =>
  openRepository({ store: openMemoryStore(objects), password: secret, ...world })

describe('keys', () => {
  test('are added, listed and removed; the one in use stays', async () => {
    const { objects } = await inMemory()
    const repository = await openWith(objects, password)
    const added = await repository.upkeep.addKey({ password: 'second', username: 'u', hostname: 'h', scryptCost })
    const keys = await repository.upkeep.listKeys()
    expect(keys.map(({ isCurrent }) => isCurrent)).toEqual([true, false])
    expect(keys[1]).toMatchObject({ id: added, username: 'u', hostname: 'h' })
    const [current] = keys
    await expect(repository.upkeep.removeKey(current?.id ?? '')).rejects.toMatchObject({ code: 'key_in_use' })
    await expect(repository.upkeep.removeKey('zz')).rejects.toMatchObject({ code: 'key_absent' })
    await expect(repository.upkeep.removeKey('')).rejects.toMatchObject({ code: 'key_absent' })
    const second = await openWith(objects, 'second')
    expect(await second.upkeep.removeKey(current?.id.slice(0, 12) ?? '')).toBe(current?.id)
    await expect(openWith(objects, password)).rejects.toMatchObject({ code: 'password_wrong' })
  })

  test('a changed password opens, the old one no longer', async () => {
    const { objects } = await inMemory()
    const repository = await openWith(objects, password)
    await repository.upkeep.changePassword({ password: 'new', scryptCost })
    expect((await repository.upkeep.listKeys()).map(({ isCurrent }) => isCurrent)).toEqual([true])
    await expect(openWith(objects, password)).rejects.toMatchObject({ code: 'password_wrong' })
    expect((await (await openWith(objects, 'new')).check({ readData: true })).problems).toEqual([])
    // And once more, from the same opening.
    await repository.upkeep.changePassword({ password: 'newer', scryptCost })
    expect(await repository.upkeep.listKeys()).toHaveLength(1)
  })

  test('an empty password is refused, and nothing is added to what is open for reading only', async () => {
    const { objects } = await inMemory()
    const repository = await openWith(objects, password)
    await expect(repository.upkeep.addKey({ password: '' })).rejects.toMatchObject({ code: 'options_invalid' })
    const reader = await openRepository({ store: openMemoryStore(objects), password, ...world, readOnly: true })
    const adding = reader.upkeep.addKey({ password: 'x', scryptCost })
    await expect(adding).rejects.toMatchObject({ code: 'repository_read_only' })
    await expect(reader.upkeep.removeKey('aa')).rejects.toMatchObject({ code: 'repository_read_only' })
    expect(await reader.upkeep.listKeys()).toHaveLength(1)
  })

  for (const program of restics)
    test.skipIf(!program.isHere)(
      `${program.name} opens with ours and we with its own [needs ${program.name}]`,
      async () => {
        const restic = resticOf(program)
        // Restic 0.14 shows the first digits.
        const shown = (id: string) => (program.name === newerResticName ? id : id.slice(0, 8))
        const home = await scratch()
        const path = join(home, 'repository')
        const repository = await newRepository(path)
        await writeFile(join(home, 'new'), 'from restic')
        await restic(path, 'key', 'add', '--new-password-file', join(home, 'new'))
        const theirs = await openRepository({ store: openLocalStore(path), password: 'from restic', ...world })
        expect(await theirs.upkeep.listKeys()).toHaveLength(2)
        await repository.upkeep.addKey({ password: 'third', scryptCost })
        const listed = JSON.parse(await restic(path, 'key', 'list', '--json')) as { id: string; current: boolean }[]
        const ours = await repository.upkeep.listKeys()
        expect(listed.map(({ id }) => id).sort()).toEqual(ours.map(({ id }) => shown(id)).sort())
        await writeFile(join(home, 'third'), 'third')
        const opened = await restic(path, '--password-file', join(home, 'third'), 'check')
        expect(opened).toContain('no errors were found')
      },
    )
})
