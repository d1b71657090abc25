/** `stillpoint repo cat` */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Failure } from '@stillpoint/core/kernel'
import { Argument, type Command } from 'commander'
import type { CommandSession, RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { resolvePart } from './snapshot-part.ts'

const kinds = ['config', 'snapshot', 'index', 'key', 'lock', 'pack', 'blob', 'tree'] as const
type Kind = (typeof kinds)[number]

export function repoCatCommand(run: RunCommand): Command {
  const text =
    'Prints one object, decrypted: the JSON of a config, snapshot, index, key or lock; a pack as it is stored; what a blob holds; the tree of a snapshot, or of a directory of it (ID:/path).'
  const command = repoCommand('cat', 'print an object', text)
    .addArgument(new Argument('<kind>', 'kind of the object').choices(kinds))
    .argument('[id]', 'its id, or the first digits; of a blob, all of them')
    .action((kind: Kind, id: string | undefined, options: RepositoryOptions) =>
      runRepo(run, { isListing: true })(options, async (session) => {
        if ((kind === 'config') !== (id === undefined)) {
          const message = kind === 'config' ? 'there is one config: give no id' : `name the ${kind} by its id`
          throw new Failure({ code: 'usage', message })
        }
        const repository = await openNamed(session, options)
        const { upkeep } = repository
        if (kind === 'tree') {
          const { tree } = await resolvePart(repository, id ?? '', {})
          await writeBytes(session, await upkeep.blobContent(tree))
        } else if (kind === 'pack') await writeBytes(session, await upkeep.packContent(id ?? ''))
        else if (kind === 'blob') await writeBytes(session, await upkeep.blobContent(id ?? ''))
        // The text as it is: numbers in it may be larger than what a JavaScript number holds.
        else session.output.terminal.stdout.write(`${indented(await upkeep.objectJson(kind, id ?? ''))}\n`)
        return succeeded
      }),
    )
  return examples(command, [
    { line: 'stillpoint repo cat snapshot 1a2b3c4d', what: 'what is stored of a snapshot' },
    { line: 'stillpoint repo cat blob ID > blob', what: 'the content of a blob' },
    { line: 'stillpoint repo cat tree latest:/etc', what: 'what is stored of the entries of a directory' },
  ])
}

/** JSON with two spaces for each level, as restic prints it; strings and numbers stay what they are. */
export function indented(json: string): string {
  const tokens = json.match(/"(?:[^"\\]|\\.)*"|[^\s"[\]{},:]+|[[\]{},:]/g) ?? []
  let depth = 0
  let text = ''
  for (const [at, token] of tokens.entries()) {
    const next = tokens[at + 1]
    const line = () => `\n${'  '.repeat(depth)}`
    if (token === '{' || token === '[') {
      depth += 1
      text += next === '}' || next === ']' ? token : token + line()
    } else if (token === '}' || token === ']') {
      depth -= 1
      text += tokens[at - 1] === '{' || tokens[at - 1] === '[' ? token : line() + token
    } else if (token === ',') text += `,${line()}`
    else text += token === ':' ? ': ' : token
  }
  return text
}

async function writeBytes({ output }: CommandSession, bytes: Uint8Array): Promise<void> {
  try {
    await pipeline(Readable.from([bytes], { objectMode: false }), process.stdout, { end: false })
  } catch (error) {
    // A reader that goes away has seen enough.
    const isGone = error instanceof Error && 'code' in error && error.code === 'EPIPE'
    if (!isGone && !output.terminal.stdout.closed) throw error
  }
}
