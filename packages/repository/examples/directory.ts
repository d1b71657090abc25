/**
 * Saves a directory, and restores it elsewhere:
 *
 *   node packages/repository/examples/directory.ts REPOSITORY PASSWORD-FILE SOURCE TARGET
 */
import { readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { resolve } from 'node:path'
import { initRepository, openLocalStore, openRepository, timestampFromMs } from '@stillpoint/repository'

const [, , path = '', passwordFile = '', source = '', target = ''] = process.argv
const password = (await readFile(passwordFile, 'utf8')).trimEnd()
const store = openLocalStore(path)
await initRepository({ store, password })
await using repository = await openRepository({ store, password })

const save = await repository.startSave()
const saved = await save.saveDirectory(resolve(source), { excludeRules: { patterns: [{ text: '*.tmp' }] } })
await save.finish()
for (const { path: unread, failure } of saved.errors) console.error(`${unread}: ${failure.message}`)

const id = await repository.seal({
  time: timestampFromMs(Date.now()),
  paths: [resolve(source)],
  hostname: hostname(),
  username: userInfo().username,
  tags: ['example'],
  trees: { source: saved.tree },
})
console.log(`saved ${saved.files} files, ${saved.bytes} bytes, as ${id.slice(0, 8)}`)

const snapshot = await repository.findSnapshot('latest')
const restored = await repository.loadDirectory(snapshot.tree, target)
console.log(`restored ${restored.files} files`)
