import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import {
  accountNamesOf,
  accountsIn,
  namesOf,
  numbersOf,
  readAccountNames,
  readAccountNumbers,
} from './account-names.ts'

const text = `root:x:0:0:root:/root:/bin/sh
#alice:x:1:1::/:/bin/sh
+bob:x:2:2::/:/bin/sh
-carol:x:3:3::/:/bin/sh
alice:x:1000:1000::/home/alice:/bin/sh
toor:x:0:0::/root:/bin/sh
alice:x:1001:1001::/home/alice:/bin/sh
:x:5:5::/:/bin/sh
nobody:x:4294967294:65534::/:/bin/sh
none:x:4294967295:65534::/:/bin/sh
without
negative:x:-1:1::/:/bin/sh
short:x:7`

test('of several lines for one name or one number the first counts; comments and references are none', () => {
  const accounts = accountsIn(text)
  expect([...numbersOf(accounts)]).toEqual([
    ['root', 0],
    ['alice', 1000],
    ['toor', 0],
    ['nobody', 4294967294],
    ['short', 7],
  ])
  expect([...namesOf(accounts)]).toEqual([
    [0, 'root'],
    [1000, 'alice'],
    [1001, 'alice'],
    [4294967294, 'nobody'],
    [7, 'short'],
  ])
  expect(accountsIn('')).toEqual([])
})

test.skipIf(process.platform !== 'linux')('those of this machine are read, both ways', async () => {
  const numbers = await readAccountNumbers()
  const names = accountNamesOf(await readAccountNames())
  const [uid, gid] = ['-u', '-g'].map((option) => Number(execFileSync('id', [option, 'daemon'], { encoding: 'utf8' })))
  const group = execFileSync('id', ['-gn', 'daemon'], { encoding: 'utf8' }).trim()
  expect([numbers.users.get('daemon'), numbers.groups.get(group)]).toEqual([uid, gid])
  expect([names.users.get(uid ?? -1), names.groups.get(gid ?? -1)]).toEqual(['daemon', group])
})
