/** A server in a process of its own, for tests that kill it. Argument: its state directory. Prints its URL. */
import { openSqliteCatalog } from '../catalog/sqlite-catalog.ts'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import { startServer } from './start-server.ts'
import { scriptedOperations, testConfig } from './workbench.ts'

const directory = process.argv[2]
if (directory === undefined) throw new Error('a state directory is needed')
try {
  const { url } = await startServer({
    config: testConfig(directory),
    clock: systemClock,
    random: systemRandom,
    entropy: systemEntropy,
    log: () => {},
    operationsFactory: async () => {
      const catalog = openSqliteCatalog({ directory, note: () => {} })
      const refused = async () => {
        throw new Error('no transfers here')
      }
      return {
        operations: scriptedOperations({ close: () => catalog.close() }),
        catalog,
        captures: { putState: refused, putChannel: refused, finish: refused },
        restores: { contents: refused, readState: refused, readChannel: refused },
      }
    },
  })
  process.stdout.write(`${url}\n`)
} catch (error) {
  process.stdout.write(`${error instanceof Error && 'code' in error ? String(error.code) : 'unexpected'}\n`)
  process.exitCode = 1
}
