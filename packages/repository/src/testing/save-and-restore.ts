/**
 * A child process for tests: saves a directory and restores it again, and prints whether the system's own calls are known
 * and the id of the tree. Arguments: repository, directory, target. Run with `--no-addons` it is a platform that has no
 * native libraries.
 */
import { openLocalStore } from '../blob/local-store.ts'
import { linuxCalls } from '../native/native-calls.ts'
import { openRepository } from '../repository.ts'
import { world } from './world.ts'

const [path = '', directory = '', target = ''] = process.argv.slice(2)
const password = process.env['SAVE_PASSWORD'] ?? ''

const repository = await openRepository({ store: openLocalStore(path), password, ...world })
const save = await repository.startSave()
const { tree, errors } = await save.saveDirectory(directory)
await save.finish()
const { problems } = await repository.loadDirectory(tree, target)
process.stdout.write(JSON.stringify({ isKnown: linuxCalls() !== undefined, tree, errors, problems }))
