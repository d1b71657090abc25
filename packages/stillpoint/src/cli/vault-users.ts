import { Command, Option } from 'commander'
import { z } from 'zod'
import { type CommonOptions, withExamples, withJson } from './help.ts'
import type { RunCommand } from './session.ts'
import { labelArgument, type PlaceOptions, sizeArgument, userArgument, vaultPlace } from './vault-arguments.ts'

/** Loaded when it is needed: no other command should load the vault. */
const actions = () => import('./vault-user-actions.ts')

export const vaultUserSchema = z.looseObject({
  user: z.string(),
  password: z.boolean().describe('The user has a password'),
  appendOnly: z.boolean().describe('With the password, nothing but locks can be deleted'),
  quotaBytes: z.int().nullable(),
  tokens: z.array(z.looseObject({ label: z.string(), appendOnly: z.boolean() })),
})
export const vaultUserListSchema = z.looseObject({ users: z.array(vaultUserSchema) })
export const vaultTokenSchema = z.looseObject({
  user: z.string(),
  label: z.string(),
  token: z.string().describe('It is shown this once, and not stored'),
})

export function withPlace(command: Command): Command {
  return command
    .addOption(new Option('--data <dir>', 'the directory of the vault').makeOptionMandatory())
    .addOption(new Option('--users <file>', 'the file of its users; default: .users in that directory'))
}

export interface AddUserOptions extends PlaceOptions, CommonOptions {
  readonly passwordFile?: string
  readonly quota?: number
  readonly appendOnly?: true
}

export interface TokenOptions extends PlaceOptions, CommonOptions {
  readonly label: string
  readonly appendOnly?: true
}

export function vaultUserCommand(run: RunCommand): Command {
  const add = new Command('add')
    .summary('add a user, or change their password')
    .description(
      'Adds a user, or changes the password, quota and rights of one. The password comes from a file, from stdin, or is asked for on the terminal; never from an argument.',
    )
    .argument('<name>', 'name of the user, the first part of the URLs of their repositories', userArgument)
    .addOption(new Option('--password-file <file>', 'file that holds the password'))
    .addOption(new Option('--quota <size>', 'how much the user may store, such as 500G').argParser(sizeArgument))
    .addOption(new Option('--append-only', 'nothing but locks may be deleted with the password'))
    .action((name: string, options: AddUserOptions) =>
      run(options, async (session) => (await actions()).addUser(session, name, options)),
    )
  withExamples(withJson(withPlace(add)), [
    { line: 'stillpoint vault user add alice --data /srv/vault', what: 'asks for the password' },
    { line: 'stillpoint vault user add web1 --data /srv/vault --append-only < password', what: 'reads it from stdin' },
  ])
  const remove = new Command('remove')
    .summary('remove a user')
    .description('Removes the password and all tokens of a user. Repositories stay where they are.')
    .argument('<name>', 'name of the user', userArgument)
    .action((name: string, options: PlaceOptions & CommonOptions) =>
      run(options, async (session) =>
        (await actions()).removeSecrets(session, vaultPlace(session.host.cwd, options), { user: name }),
      ),
    )
  withExamples(withJson(withPlace(remove)), [
    { line: 'stillpoint vault user remove alice --data /srv/vault', what: '' },
  ])
  const list = new Command('list')
    .summary('list the users')
    .description('Lists the users with their quotas, rights and tokens.')
    .action((options: PlaceOptions & CommonOptions) =>
      run(options, async (session) => (await actions()).listUsers(session, options)),
    )
  withExamples(withJson(withPlace(list)), [{ line: 'stillpoint vault user list --data /srv/vault', what: '' }])
  return new Command('user')
    .summary('add, remove and list users')
    .description('Users of a vault.')
    .addCommand(add)
    .addCommand(remove)
    .addCommand(list)
}

export function vaultTokenCommand(run: RunCommand): Command {
  const withLabel = (command: Command) =>
    command.addOption(
      new Option('--label <label>', 'what the token is for').argParser(labelArgument).makeOptionMandatory(),
    )
  const add = withLabel(new Command('add'))
    .summary('make a token for a user')
    .description(
      'Makes a token that lets in as the user, and prints it this once. It is sent as a bearer token, or as the password of the user, as stock restic does.',
    )
    .argument('<name>', 'name of the user', userArgument)
    .addOption(new Option('--append-only', 'nothing but locks may be deleted with the token'))
    .action((name: string, options: TokenOptions) =>
      run(options, async (session) => (await actions()).addToken(session, name, options)),
    )
  withExamples(withJson(withPlace(add)), [
    {
      line: 'stillpoint vault token add alice --label web1 --append-only --data /srv/vault > token',
      what: 'for a machine that shall not be able to destroy its backups',
    },
  ])
  const remove = withLabel(new Command('remove'))
    .summary('remove a token')
    .description('Removes a token: from then on nobody gets in with it.')
    .argument('<name>', 'name of the user', userArgument)
    .action((name: string, options: TokenOptions) =>
      run(options, async (session) =>
        (await actions()).removeSecrets(session, vaultPlace(session.host.cwd, options), {
          user: name,
          label: options.label,
        }),
      ),
    )
  withExamples(withJson(withPlace(remove)), [
    { line: 'stillpoint vault token remove alice --label web1 --data /srv/vault', what: '' },
  ])
  return new Command('token')
    .summary('make and remove tokens')
    .description('Tokens of users of a vault.')
    .addCommand(add)
    .addCommand(remove)
}
