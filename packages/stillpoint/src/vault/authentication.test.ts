/** The file of users, and who gets in by it. */
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '@stillpoint/core/kernel'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { systemEntropy } from '../system-env.ts'
import { createToken, hashPassword, openAuthentication } from './authentication.ts'
import { changeUsersFile, parseUsers, readUsersFile, type ScryptHash, type UserSecret } from './users-file.ts'

let directory = ''
let path = ''
let files = 0
let hash: ScryptHash
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'stillpoint-users-'))
  hash = await hashPassword('right', systemEntropy)
})
afterAll(() => rm(directory, { recursive: true, force: true }))
beforeEach(() => {
  files += 1
  path = join(directory, `users-${files}`)
})

/** A clock that the test turns. */
function turnedClock(): Clock & { turn(ms: number): void } {
  let nowMs = 0
  const turn = (ms: number) => {
    nowMs += ms
  }
  return { monotonicMs: () => nowMs, wallMs: () => nowMs, after: () => () => {}, turn }
}

const alice = (): UserSecret => ({ user: 'alice', secret: hash, appendOnly: false })
const basic = (user: string, secret: string) => `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}`
const scryptLine = (cost: string) => `alice:$scrypt$${cost}$${'A'.repeat(24)}$${'B'.repeat(44)}`

describe('the file of users', () => {
  test('what is written is read, with its attributes, readable by nobody else', async () => {
    const secrets: readonly UserSecret[] = [
      { ...alice(), appendOnly: true, quotaBytes: 123 },
      { user: 'bob', appendOnly: true, secret: { kind: 'token', label: 'web-1', hash: 'ab'.repeat(32) } },
    ]
    await changeUsersFile(path, () => secrets)
    expect(await readUsersFile(path)).toEqual(secrets)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
  })

  test('comments and empty lines are nothing, and no file is no users', async () => {
    expect(parseUsers('# a comment\n\n  \r\n', path)).toEqual([])
    expect(await readUsersFile(path)).toEqual([])
  })

  test.each([
    ['a password as it is', 'alice:hunter2'],
    ['another hash', 'alice:$2y$05$abcdefghijklmnopqrstuv'],
    ['a name with a path in it', `../alice:${'x'}`],
    ['a name of a folder', scryptLine('ln=15,r=8,p=1').replace('alice', 'data')],
    ['a cost of terabytes', scryptLine('ln=40,r=8,p=1')],
    ['no cost', scryptLine('ln=0,r=8,p=1')],
    ['too many rounds', scryptLine('ln=10,r=8,p=999')],
    ['an unknown attribute', `${scryptLine('ln=15,r=8,p=1')}:admin`],
    ['a quota that is none', `${scryptLine('ln=15,r=8,p=1')}:quota=-1`],
    ['a short salt', `alice:$scrypt$ln=15,r=8,p=1$QUE=$${'B'.repeat(44)}`],
    ['a second password', `${scryptLine('ln=15,r=8,p=1')}\n${scryptLine('ln=15,r=8,p=1')}`],
  ])('%s is refused, with its line and not quoted', (_, text) => {
    let refused: unknown
    try {
      parseUsers(`# first\n${text}\n`, 'the-file')
    } catch (error) {
      refused = error
    }
    expect(refused).toMatchObject({ code: 'users_file_invalid', message: expect.stringMatching(/^the-file:[23] /) })
    expect(String(refused)).not.toContain('hunter2')
  })

  test('one that everybody can write is refused', async () => {
    await writeFile(path, '')
    await chmod(path, 0o666)
    await expect(readUsersFile(path)).rejects.toMatchObject({ code: 'secret_file_too_open' })
  })

  test('of two changes at once one is made or both, and none is lost', async () => {
    const add = (user: string) => changeUsersFile(path, (secrets) => [...secrets, { ...alice(), user }])
    const names = ['a', 'b', 'c', 'd', 'e']
    const outcomes = await Promise.allSettled(names.map(add))
    const made = names.filter((_, at) => outcomes[at]?.status === 'fulfilled')
    for (const each of outcomes)
      if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'users_file_busy' })
    expect(made.length).toBeGreaterThan(0)
    expect((await readUsersFile(path)).map(({ user }) => user).sort()).toEqual(made)
  })

  test('a change that fails changes nothing, and is in nobody’s way', async () => {
    await changeUsersFile(path, () => [alice()])
    const before = await readFile(path, 'utf8')
    const failing = changeUsersFile(path, () => {
      throw new TypeError('a defect')
    })
    await expect(failing).rejects.toThrow('a defect')
    expect(await readFile(path, 'utf8')).toBe(before)
    await changeUsersFile(path, () => [])
    expect(await readUsersFile(path)).toEqual([])
  })
})

describe('who gets in', () => {
  async function opened(secrets: readonly UserSecret[]) {
    await changeUsersFile(path, () => secrets)
    const clock = turnedClock()
    const warnings: string[] = []
    const authentication = await openAuthentication({
      usersFile: path,
      clock,
      warn: (text) => void warnings.push(text),
    })
    return { authentication, clock, warnings }
  }

  test('the right password of the right user, with their rights', async () => {
    const { authentication } = await opened([{ ...alice(), appendOnly: true, quotaBytes: 5 }])
    expect(await authentication.check(basic('alice', 'right'))).toEqual({
      user: 'alice',
      appendOnly: true,
      quotaBytes: 5,
    })
    for (const wrong of [basic('alice', 'wrong'), basic('bob', 'right'), basic('alice', ''), 'Basic', undefined, '']) {
      await expect(authentication.check(wrong)).rejects.toMatchObject({ code: 'unauthenticated' })
    }
  })

  test('an unknown user and a wrong password are refused in the same words', async () => {
    const { authentication } = await opened([alice()])
    const words = async (authorization: string) =>
      authentication
        .check(authorization)
        .then(String, (error: unknown) => (error instanceof Error ? error.message : ''))
    expect(await words(basic('alice', 'wrong'))).toBe(await words(basic('nobody', 'wrong')))
  })

  test('a token has its own rights and the quota of its user', async () => {
    const { token, hash: tokenHash } = createToken(systemEntropy)
    const secret = { kind: 'token', label: 'x', hash: tokenHash } as const
    const { authentication } = await opened([
      { ...alice(), quotaBytes: 7 },
      { user: 'alice', appendOnly: true, secret },
    ])
    const expected = { user: 'alice', appendOnly: true, quotaBytes: 7 }
    expect(await authentication.check(`Bearer ${token}`)).toEqual(expected)
    expect(await authentication.check(basic('alice', token))).toEqual(expected)
    await expect(authentication.check(basic('bob', token))).rejects.toMatchObject({ code: 'unauthenticated' })
    await expect(authentication.check(`Bearer ${tokenHash}`)).rejects.toMatchObject({ code: 'unauthenticated' })
  })

  test('a changed password ends the old one within a second, though it was remembered', async () => {
    const { authentication, clock } = await opened([alice()])
    await authentication.check(basic('alice', 'right'))
    const other = await hashPassword('other', systemEntropy)
    await changeUsersFile(path, () => [{ ...alice(), secret: other }])
    clock.turn(1_000)
    await expect(authentication.check(basic('alice', 'right'))).rejects.toMatchObject({ code: 'unauthenticated' })
    expect(await authentication.check(basic('alice', 'other'))).toMatchObject({ user: 'alice' })
  })

  test('a file that has become unreadable changes nothing, and is told once', async () => {
    const { authentication, clock, warnings } = await opened([alice()])
    await writeFile(path, 'alice:plain\n')
    for (let look = 0; look < 3; look += 1) {
      clock.turn(1_000)
      expect(await authentication.check(basic('alice', 'right'))).toMatchObject({ user: 'alice' })
    }
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).not.toContain('plain')
  })

  test('a flood of guesses is cut short, and ends', async () => {
    const cheap = await hashPassword('right', systemEntropy, { logN: 10, r: 8, p: 1 })
    const { authentication } = await opened([{ ...alice(), secret: cheap }])
    const guesses = Array.from({ length: 40 }, (_, at) => authentication.check(basic('alice', `guess ${at}`)))
    const codes = (await Promise.allSettled(guesses)).map((each) =>
      each.status === 'rejected' ? each.reason.code : 'in',
    )
    expect(codes.filter((code) => code === 'vault_busy')).toHaveLength(6)
    expect(codes.filter((code) => code === 'unauthenticated')).toHaveLength(34)
    expect(await authentication.check(basic('alice', 'right'))).toMatchObject({ user: 'alice' })
  })
})
