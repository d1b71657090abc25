/** `stillpoint repo key list|add|remove|passwd` */
import { Failure } from '@stillpoint/core/kernel'
import { Command, Option } from 'commander'
import { readSecret } from '../../config/secret.ts'
import { shortId } from '../quantities.ts'
import type { CommandHost, RunCommand } from '../session.ts'
import { tableLines } from '../table.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { timeShown } from './shown.ts'

interface NewKeyFlags extends RepositoryOptions {
  readonly newPasswordFile?: string
  readonly newInsecureNoPassword?: true
  readonly user?: string
  readonly host?: string
}

export function repoKeyCommand(run: RunCommand): Command {
  const group = new Command('key')
    .summary('manage passwords')
    .description('Lists, adds, removes and changes passwords.')
  const list = repoCommand('list', 'list the keys', 'Lists the keys; the one in use is marked.').action(
    (options: RepositoryOptions) =>
      runRepo(run, { isListing: true })(options, async (session) => {
        const { output } = session
        const { upkeep } = await openNamed(session, options, { withoutIndex: true })
        const keys = await upkeep.listKeys(({ message }) => output.warning(message))
        output.result(
          keys.map(({ id, isCurrent, username, hostname, created }) => ({
            current: isCurrent,
            id,
            userName: username,
            hostName: hostname,
            created: timeShown(created),
          })),
        )
        const rows = keys.map((key) => [
          `${key.isCurrent ? '*' : ' '}${shortId(key.id)}`,
          key.username,
          key.hostname,
          timeShown(key.created),
        ])
        output.lines(tableLines([{ title: ' ID' }, { title: 'User' }, { title: 'Host' }, { title: 'Created' }], rows))
        return succeeded
      }),
  )
  const add = withNewPassword(
    repoCommand('add', 'add a password', 'Adds a password that opens the repository.'),
  ).action((options: NewKeyFlags) =>
    runRepo(run)(options, async (session) => {
      const { upkeep } = await openNamed(session, options, { withoutIndex: true })
      const id = await upkeep.addKey(await newKey(session.host, options))
      session.output.result({ message_type: 'key_added', id })
      session.output.lines([`saved new key as ${id}`])
      return succeeded
    }),
  )
  const remove = repoCommand('remove', 'remove a password', 'Removes a key. The one that opened the repository stays.')
    .argument('<id>', 'id of the key, or its first digits')
    .action((id: string, options: RepositoryOptions) =>
      runRepo(run)(options, async (session) => {
        const { upkeep } = await openNamed(session, options, { withoutIndex: true })
        const removed = await upkeep.removeKey(id)
        session.output.result({ message_type: 'key_removed', id: removed })
        session.output.lines([`removed key ${removed}`])
        return succeeded
      }),
    )
  const passwd = withNewPassword(repoCommand('passwd', 'change the password', 'Replaces the password in use.')).action(
    (options: NewKeyFlags) =>
      runRepo(run)(options, async (session) => {
        const { upkeep } = await openNamed(session, options, { withoutIndex: true })
        const id = await upkeep.changePassword(await newKey(session.host, options))
        session.output.result({ message_type: 'key_changed', id })
        session.output.lines([`saved new key as ${id}`])
        return succeeded
      }),
  )
  group.addCommand(examples(list, [{ line: 'stillpoint repo key list', what: 'who can open it' }]))
  group.addCommand(examples(add, [{ line: 'stillpoint repo key add --new-password-file new', what: 'one more' }]))
  group.addCommand(examples(remove, [{ line: 'stillpoint repo key remove 1a2b3c4d', what: 'one less' }]))
  group.addCommand(examples(passwd, [{ line: 'stillpoint repo key passwd --new-password-file new', what: 'another' }]))
  return group
}

function withNewPassword(command: Command): Command {
  return command
    .addOption(
      new Option('--new-password-file <file>', 'file with the new password; without it, it is read from stdin'),
    )
    .addOption(new Option('--new-insecure-no-password', 'the new password is empty').conflicts('newPasswordFile'))
    .addOption(new Option('--user <name>', 'whose it is; default: this user'))
    .addOption(new Option('--host <name>', 'for which host; default: this one'))
}

async function newPassword({ cwd, signal, terminal }: CommandHost, options: NewKeyFlags): Promise<string> {
  if (options.newInsecureNoPassword === true) return ''
  const inFile = await readSecret({ passwordFile: options.newPasswordFile }, cwd, signal)
  // As restic: white space around it is of the file, and part of what was typed.
  const password = inFile?.trim() ?? (await terminal.readSecret('new password: ', signal))
  if (password !== '') return password
  const hint = 'An empty one needs --new-insecure-no-password.'
  throw new Failure({ code: 'usage', message: 'no new password was given', hint })
}

async function newKey(host: CommandHost, options: NewKeyFlags) {
  return {
    password: await newPassword(host, options),
    ...(options.user === undefined ? {} : { username: options.user }),
    ...(options.host === undefined ? {} : { hostname: options.host }),
  }
}
