import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { scratch } from '../testing/testbed.ts'
import { readS3Credentials } from './s3-credentials.ts'
import { parseS3Location } from './s3-location.ts'
import { openS3Store } from './s3-store.ts'

describe('locations as restic writes them', () => {
  const elsewhere = { amazon: undefined, bucket: 'bucket' }
  test.each([
    ['s3:https://host/bucket', { ...elsewhere, endpoint: 'https://host', prefix: '' }],
    ['s3:http://host:8080/bucket/a/b', { ...elsewhere, endpoint: 'http://host:8080', prefix: 'a/b/' }],
    ['s3:host/bucket/a', { ...elsewhere, endpoint: 'https://host', prefix: 'a/' }],
    ['s3://host:9000/bucket//a/./b/', { ...elsewhere, endpoint: 'https://host:9000', prefix: 'a/b/' }],
    ['s3:[::1]:9000/bucket', { ...elsewhere, endpoint: 'https://[::1]:9000', prefix: '' }],
    ['s3:https://host/bucket/a%20b', { ...elsewhere, endpoint: 'https://host', prefix: 'a b/' }],
    [
      's3:s3.amazonaws.com/bucket',
      { endpoint: 'https://s3.amazonaws.com', amazon: { region: undefined }, bucket: 'bucket', prefix: '' },
    ],
    [
      's3:s3.eu-central-1.amazonaws.com/bucket',
      {
        endpoint: 'https://s3.eu-central-1.amazonaws.com',
        amazon: { region: 'eu-central-1' },
        bucket: 'bucket',
        prefix: '',
      },
    ],
  ])('%s', (text, expected) => {
    expect(parseS3Location(text)).toEqual(expected)
  })

  test.each([
    ['s3:', 'is not a URL'],
    ['s3:host', 'names no bucket'],
    ['s3:https://host/', 'names no bucket'],
    ['s3:https://host/b?c=d', 'has a "?" or "#"'],
    ['s3:https://host/b/%', 'encodes nothing'],
    ['s3:https://host/b/%2e%2e%2fc', 'has ".."'],
    ['s3:https://host/.b/c', 'not allowed'],
    ['s3:https://key:s3cret@host/b', 'has a user or a password in it'],
  ])('%s is refused', (text, why) => {
    const parsing = () => parseS3Location(text)
    expect(parsing).toThrow(why)
    expect(parsing).not.toThrow('s3cret')
  })
})

describe('options', () => {
  test.each([
    [{ partBytes: 1000 }, 'partBytes'],
    [{ retention: { mode: 'GOVERNANCE', days: 0 } }, 'days'],
    [{ retention: { mode: 'GOVERNANCE', days: Number.NaN } }, 'days'],
  ] as const)('%o is refused', async (options, word) => {
    await expect(openS3Store({ location: 's3:host/bucket', ...options })).rejects.toMatchObject({
      code: 'options_invalid',
      message: expect.stringContaining(word),
    })
  })

  test('a CA file that is not there', async () => {
    const opening = openS3Store({ location: 's3:host/bucket', caFile: '/nowhere/ca.pem' })
    await expect(opening).rejects.toMatchObject({ code: 'storage_failed' })
  })
})

describe('a file of credentials', () => {
  test('has profiles, and only the one that is asked for is taken', async () => {
    const path = join(await scratch(), 'credentials')
    const text = `# ours\n[default]\nAWS_ACCESS_KEY_ID = a:b\naws_secret_access_key = s=c\n; more\n\n[profile two]\r\naws_access_key_id=c\r\naws_secret_access_key=d\r\naws_session_token=e\r\n[empty]\n`
    await writeFile(path, text, { mode: 0o600 })
    expect(await readS3Credentials(path, 'default')).toEqual({ accessKeyId: 'a:b', secretAccessKey: 's=c' })
    expect(await readS3Credentials(path, 'two')).toEqual({
      accessKeyId: 'c',
      secretAccessKey: 'd',
      sessionToken: 'e',
    })
    for (const profile of ['empty', 'absent', 'profile two']) {
      await expect(readS3Credentials(path, profile)).rejects.toMatchObject({ code: 'secret_empty' })
    }
  })

  test('that everybody may write is refused', async () => {
    const path = join(await scratch(), 'credentials')
    await writeFile(path, '[default]\n')
    await import('node:fs/promises').then(({ chmod }) => chmod(path, 0o666))
    await expect(readS3Credentials(path, 'default')).rejects.toMatchObject({ code: 'secret_file_too_open' })
  })
})
