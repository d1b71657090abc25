/** `stillpoint repo dump` */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Failure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import type { CommandSession, RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'

interface DumpFlags extends RepositoryOptions, SelectionOptions {
  readonly archive: string
}

export function repoDumpCommand(run: RunCommand): Command {
  const text = 'Writes a file to stdout as it is, a directory as a tar archive.'
  const command = repoCommand('dump', 'write a file or directory to stdout', text)
    .argument('<snapshot>', 'its id, the first digits, or "latest"')
    .argument('<path>', 'absolute path in the snapshot; "/": all of it')
    .addOption(new Option('-a, --archive <format>', 'format for directories').choices(['tar']).default('tar'))
    .action((id: string, path: string, options: DumpFlags) =>
      runRepo(run, { isListing: true })(options, async (session) => {
        const repository = await openNamed(session, options)
        const snapshot = await repository.upkeep.resolveSnapshot(id, selectionOf(session.host, options))
        await write(session, await contentOf(session, { repository, snapshot, path }))
        return succeeded
      }),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo dump latest /etc/hosts', what: 'one file' },
    { line: 'stillpoint repo dump latest /etc | tar -t', what: 'a directory' },
  ])
}

interface Dumped {
  readonly repository: Repository
  readonly snapshot: Snapshot
  readonly path: string
}

async function contentOf({ host }: CommandSession, { repository, snapshot, path }: Dumped) {
  if (path.replaceAll('/', '') === '') return repository.upkeep.tar(snapshot.tree, host.signal)
  const node = await repository.resolve(snapshot.tree, path)
  if (node.type === 'dir') return repository.upkeep.tar(node.subtree, host.signal)
  if (node.type === 'file') return repository.readFile(node, host.signal)
  throw new Failure({ code: 'path_absent', message: `${JSON.stringify(path)} is neither a file nor a directory` })
}

/** Bytes, so not through the output of text; a reader that goes away has seen enough. */
async function write({ output }: CommandSession, content: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    await pipeline(Readable.from(content, { objectMode: false }), process.stdout, { end: false })
  } catch (error) {
    const isGone = error instanceof Error && 'code' in error && error.code === 'EPIPE'
    if (!isGone && !output.terminal.stdout.closed) throw error
  }
}
