/** `stillpoint repo dump` */
import { type FileHandle, open, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Failure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import type { CommandSession, RunCommand } from '../session.ts'
import { writeToStdout } from './piped-output.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { resolvePart } from './snapshot-part.ts'

interface DumpFlags extends RepositoryOptions, SelectionOptions {
  readonly archive: 'tar' | 'zip'
  readonly target?: string
}

export function repoDumpCommand(run: RunCommand): Command {
  const text = 'Writes a file to stdout as it is, a directory as an archive.'
  const command = repoCommand('dump', 'write a file or directory to stdout', text)
    .argument('<snapshot>', 'its id, the first digits, or "latest"; ":/path" behind it for a directory of it')
    .argument('<path>', 'absolute path in that; "/": all of it')
    .addOption(new Option('-a, --archive <format>', 'format for directories').choices(['tar', 'zip']).default('tar'))
    .addOption(new Option('-t, --target <file>', 'write to this file, which must not be there'))
    .action((id: string, path: string, options: DumpFlags) =>
      runRepo(run, { isListing: true })(options, async (session) => {
        const repository = await openNamed(session, options)
        const snapshot = await resolvePart(repository, id, selectionOf(session.host, options))
        const content = await contentOf(session, { repository, snapshot, path, archive: options.archive })
        if (options.target === undefined) await writeToStdout(session, content)
        else await writeFile(resolve(session.host.cwd, options.target), content)
        return succeeded
      }),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo dump latest /etc/hosts', what: 'one file' },
    { line: 'stillpoint repo dump latest /etc | tar -t', what: 'a directory' },
    { line: 'stillpoint repo dump --archive zip --target etc.zip latest /etc', what: 'as a zip archive' },
  ])
}

interface Dumped {
  readonly repository: Repository
  readonly snapshot: Snapshot
  readonly path: string
  readonly archive: DumpFlags['archive']
}

async function contentOf({ host }: CommandSession, { repository, snapshot, path, archive }: Dumped) {
  const { upkeep } = repository
  if (path.replaceAll('/', '') === '') return upkeep[archive](snapshot.tree, host.signal)
  const node = await repository.resolve(snapshot.tree, path)
  if (node.type === 'dir') return upkeep[archive](node.subtree, host.signal)
  if (node.type === 'file') return repository.readFile(node, host.signal)
  throw new Failure({ code: 'path_absent', message: `${JSON.stringify(path)} is neither a file nor a directory` })
}

/** Nothing that is there is overwritten, and what could not be written in full is removed. @throws Failure `storage_failed`, … */
async function writeFile(path: string, content: AsyncIterable<Uint8Array>): Promise<void> {
  const { storageFailure } = await import('@stillpoint/repository')
  let file: FileHandle
  try {
    // As a restored file without its own metadata: for nobody else to read.
    file = await open(path, 'wx', 0o600)
  } catch (error) {
    throw storageFailure(error, 'writing', path)
  }
  try {
    await pipeline(content, file.createWriteStream())
  } catch (error) {
    await rm(path, { force: true })
    throw error
  }
}
