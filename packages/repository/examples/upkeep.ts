/**
 * Keeps the last two snapshots and one a month, removes what no other needs, and reads the rest to see that it is whole:
 *
 *   node packages/repository/examples/upkeep.ts REPOSITORY PASSWORD-FILE
 */
import { readFile } from 'node:fs/promises'
import { openLocalStore, openRepository } from '@stillpoint/repository'

const [, , path = '', passwordFile = ''] = process.argv
const password = (await readFile(passwordFile, 'utf8')).trimEnd()
await using repository = await openRepository({ store: openLocalStore(path), password })
const { upkeep, check } = repository

for (const { keep, remove } of await upkeep.planForget({ policy: { last: 2, counts: { monthly: 12 } } })) {
  for (const { snapshot, reasons } of keep) console.log(`keep   ${snapshot.id.slice(0, 8)}: ${reasons.join(', ')}`)
  for (const { id } of remove) console.log(`remove ${id.slice(0, 8)}`)
  await upkeep.removeSnapshots(remove.map(({ id }) => id))
}
await upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })

const { problems, snapshots, bytesRead } = await check({ readData: true })
for (const { message, hint } of problems) console.error(`${message}\n  ${hint ?? ''}`)
console.log(`${snapshots} snapshots, ${bytesRead} bytes read, ${problems.length} problems`)
process.exitCode = problems.length === 0 ? 0 : 1
