/**
 * Saves what a program prints, of unknown length, as a file of a snapshot, and prints it again from there:
 *
 *   node packages/repository/examples/stream.ts REPOSITORY PASSWORD-FILE COMMAND [ARGUMENT…]
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { openLocalStore, openRepository, timestampFromMs } from '@stillpoint/repository'

const [, , path = '', passwordFile = '', command = '', ...args] = process.argv
const password = (await readFile(passwordFile, 'utf8')).trimEnd()
await using repository = await openRepository({ store: openLocalStore(path), password })

const save = await repository.startSave()
// `saveStream` begins to read at once; what nobody reads when a program has ended, Node drops.
const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
const ended = once(child, 'close')
const { content, bytes } = await save.saveStream(child.stdout)
const [code] = await ended
if (code !== 0) {
  await save.discard()
  throw new Error(`${command} ended with ${code}: nothing is saved`)
}
await save.finish()

await repository.seal({
  time: timestampFromMs(Date.now()),
  paths: ['/output'],
  hostname: hostname(),
  username: userInfo().username,
  trees: { dump: [{ name: 'output', type: 'file', content, bytes, permissions: 0o600 }] },
})

const { tree } = await repository.findSnapshot('latest')
const node = await repository.resolve(tree, 'dump/output')
if (node.type === 'file') for await (const piece of repository.readFile(node)) process.stdout.write(piece)
