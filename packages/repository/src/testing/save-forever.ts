/** A child process for crash tests: takes snapshots of changing files until it is killed. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { openLocalStore } from '../blob/local-store.ts'
import { openRepository } from '../repository.ts'
import { world } from './world.ts'

const [path = '', source = ''] = process.argv.slice(2)
const password = process.env['SAVE_PASSWORD'] ?? ''
const repository = await openRepository({ store: openLocalStore(path), password, ...world })
process.stdout.write('saving\n')
for (let turn = 0; ; turn += 1) {
  const file = await open(join(source, `${turn % 6}`), 'r+')
  await file.write(Buffer.from(`turn ${turn} ${process.pid}`), 0, null, (turn * 99_991) % 2_900_000)
  await file.close()
  await repository.withLock('shared', async () => {
    const save = await repository.startSave()
    const { tree } = await save.saveDirectory(source)
    await save.finish()
    const time = BigInt(Date.now()) * 1_000_000n
    await repository.seal({ time, paths: [source], hostname: 'h', username: 'u', trees: { files: tree } })
  })
}
