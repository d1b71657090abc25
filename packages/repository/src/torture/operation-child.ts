/** A child process that runs one operation, and may kill itself at one of the calls that change the repository. */
import type { BlobStore } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { requireOperation, runOperation } from './operations.ts'

const [name, home = '', repository = '', sources = '', other = '', diesBefore = '0'] = process.argv.slice(2)
const store = openLocalStore(repository)
let changes = 0

/** SIGKILL: nothing of this process runs any more. */
function change<T>(action: () => Promise<T>): Promise<T> {
  changes += 1
  if (changes === Number(diesBefore)) process.kill(process.pid, 'SIGKILL')
  return action()
}

const dying: BlobStore = {
  ...store,
  put: (object, bytes) => change(() => store.put(object, bytes)),
  delete: (object) => change(() => store.delete(object)),
  sweep: () => change(() => store.sweep()),
}
process.stdout.write('ready\n')
await runOperation(requireOperation(name), { place: { home, repository, sources, other }, store: dying })
process.exit(0)
