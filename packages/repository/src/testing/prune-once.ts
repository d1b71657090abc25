/** A child process for crash tests: prunes, unless it is killed. */
import { openLocalStore } from '../blob/local-store.ts'
import { openRepository } from '../repository.ts'
import { world } from './world.ts'

const [path = ''] = process.argv.slice(2)
const password = process.env['SAVE_PASSWORD'] ?? ''
const repository = await openRepository({ store: openLocalStore(path), password, ...world })
process.stdout.write('pruning\n')
await repository.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
process.stdout.write('pruned\n')
