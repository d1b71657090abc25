/** `stillpoint vault user` and `stillpoint vault token`: who may enter a vault. A running vault follows within a second. */
import { mkdir } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'
import { storageFailure } from '@stillpoint/repository'
import { Command, Option } from 'commander'
import { z } from 'zod'
import { readSecret } from '../config/secret.ts'
import { createToken, hashPassword } from '../vault/authentication.ts'
import { changeUsersFile, passwordOf, readUsersFile, type UserSecret } from '../vault/users-file.ts'
import { exitCodes } from './exit-codes.ts'
import { type CommonOptions, withExamples, withJson } from './help.ts'
import { bytesText } from './quantities.ts'
import type { CommandSession, RunCommand } from './session.ts'
import {
  labelArgument,
  type PlaceOptions,
  sizeArgument,
  userArgument,
  type VaultPlace,
  vaultPlace,
} from './vault-arguments.ts'

const passwordCharactersMin = 8

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

interface AddUserOptions extends PlaceOptions, CommonOptions {
  readonly passwordFile?: string
  readonly quota?: number
  readonly appendOnly?: true
}

interface TokenOptions extends PlaceOptions, CommonOptions {
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
    .action((name: string, options: AddUserOptions) => run(options, (session) => addUser(session, name, options)))
  withExamples(withJson(withPlace(add)), [
    { line: 'stillpoint vault user add alice --data /srv/vault', what: 'asks for the password' },
    { line: 'stillpoint vault user add web1 --data /srv/vault --append-only < password', what: 'reads it from stdin' },
  ])
  const remove = new Command('remove')
    .summary('remove a user')
    .description('Removes the password and all tokens of a user. Repositories stay where they are.')
    .argument('<name>', 'name of the user', userArgument)
    .action((name: string, options: PlaceOptions & CommonOptions) =>
      run(options, (session) => removeSecrets(session, vaultPlace(session.host.cwd, options), { user: name })),
    )
  withExamples(withJson(withPlace(remove)), [
    { line: 'stillpoint vault user remove alice --data /srv/vault', what: '' },
  ])
  const list = new Command('list')
    .summary('list the users')
    .description('Lists the users with their quotas, rights and tokens.')
    .action((options: PlaceOptions & CommonOptions) => run(options, (session) => listUsers(session, options)))
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
    .action((name: string, options: TokenOptions) => run(options, (session) => addToken(session, name, options)))
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
      run(options, (session) =>
        removeSecrets(session, vaultPlace(session.host.cwd, options), { user: name, label: options.label }),
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

async function addUser({ host, output }: CommandSession, name: string, options: AddUserOptions) {
  const { root, usersFile } = vaultPlace(host.cwd, options)
  await mkdir(root, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw storageFailure(error, 'making the vault', root)
  })
  await readUsersFile(usersFile) // what is wrong with the file is better said before a password is asked for
  const password = await newPassword({ host, output }, name, options.passwordFile)
  const secret = await hashPassword(password, host.entropy)
  const user: UserSecret = {
    user: name,
    secret,
    appendOnly: options.appendOnly === true,
    ...(options.quota === undefined ? {} : { quotaBytes: options.quota }),
  }
  let isNew = true
  await changeUsersFile(usersFile, (secrets) => {
    const earlier = passwordOf(secrets, name)
    isNew = earlier === undefined
    return [...secrets.filter((each) => each !== earlier), user]
  })
  output.message(isNew ? `Added ${name}.` : `Changed the password, quota and rights of ${name}.`)
  output.result(summaryOf(await readUsersFile(usersFile), name))
  return exitCodes.succeeded
}

async function newPassword({ host, output }: CommandSession, name: string, file: string | undefined): Promise<string> {
  const { terminal, signal, cwd } = host
  const password =
    file === undefined
      ? await terminal.readSecret(`Password of ${name}: `, signal)
      : await readSecret({ passwordFile: file }, cwd, signal, (text) => output.warning(text))
  if (password === undefined || password === '') {
    throw new Failure({
      code: 'secret_empty',
      message: 'there is no password',
      hint: 'Type it, give it on stdin, or name a file with --password-file.',
    })
  }
  if (/\p{Cc}/u.test(password)) {
    const hint = 'Clients cannot send it. Choose one of printable characters.'
    throw new Failure({ code: 'secret_not_text', message: 'the password has a control character in it', hint })
  }
  if (password.length < passwordCharactersMin) {
    output.warning(`the password has only ${password.length} characters: it is soon guessed`)
  }
  return password
}

function absentUser(name: string, usersFile: string): Failure {
  return new Failure({
    code: 'vault_user_absent',
    message: `there is no user ${name} in ${usersFile}`,
    hint: '"stillpoint vault user list" lists them.',
  })
}

async function addToken({ host, output }: CommandSession, name: string, options: TokenOptions) {
  const { usersFile } = vaultPlace(host.cwd, options)
  const { label } = options
  const { token, hash } = createToken(host.entropy)
  await changeUsersFile(usersFile, (secrets) => {
    if (!secrets.some(({ user }) => user === name)) throw absentUser(name, usersFile)
    if (secrets.some((each) => isToken(each, name, label))) {
      throw new Failure({
        code: 'vault_token_exists',
        message: `${name} has a token "${label}" already`,
        hint: 'Choose another label, or remove that token first.',
      })
    }
    const secret = { kind: 'token', label, hash } as const
    return [...secrets, { user: name, appendOnly: options.appendOnly === true, secret }]
  })
  output.message(`Made the token "${label}" of ${name}. It is not shown again:`)
  output.lines([token])
  output.result({ user: name, label, token })
  return exitCodes.succeeded
}

function isToken({ user, secret }: UserSecret, name: string, label: string): boolean {
  return user === name && secret.kind === 'token' && secret.label === label
}

interface Removed {
  readonly user: string
  /** Of one token; else all that the user has. */
  readonly label?: string
}

async function removeSecrets({ output }: CommandSession, { usersFile }: VaultPlace, { user, label }: Removed) {
  await changeUsersFile(usersFile, (secrets) => {
    const kept = secrets.filter((each) => (label === undefined ? each.user !== user : !isToken(each, user, label)))
    if (kept.length < secrets.length) return kept
    if (label === undefined) throw absentUser(user, usersFile)
    const message = `there is no token "${label}" of ${user} in ${usersFile}`
    throw new Failure({ code: 'vault_user_absent', message, hint: '"stillpoint vault user list" lists them.' })
  })
  output.message(label === undefined ? `Removed ${user}.` : `Removed the token "${label}" of ${user}.`)
  output.result({ users: usersOf(await readUsersFile(usersFile)) })
  return exitCodes.succeeded
}

async function listUsers({ host, output }: CommandSession, options: PlaceOptions) {
  const users = usersOf(await readUsersFile(vaultPlace(host.cwd, options).usersFile))
  output.result({ users })
  output.lines(
    users.map(({ user, password, appendOnly, quotaBytes, tokens }) => {
      const facts = [
        ...(password ? [appendOnly ? 'password (append-only)' : 'password'] : []),
        ...tokens.map((token) => `token ${token.label}${token.appendOnly ? ' (append-only)' : ''}`),
        ...(quotaBytes === null ? [] : [`at most ${bytesText(quotaBytes)}`]),
      ]
      return `${user}: ${facts.join(', ')}`
    }),
  )
  if (users.length === 0) output.message('There are no users. "stillpoint vault user add NAME" adds one.')
  return exitCodes.succeeded
}

type VaultUser = z.output<typeof vaultUserSchema>

function usersOf(secrets: readonly UserSecret[]): readonly VaultUser[] {
  return [...new Set(secrets.map(({ user }) => user))].sort().map((user) => summaryOf(secrets, user))
}

function summaryOf(secrets: readonly UserSecret[], user: string): VaultUser {
  const password = passwordOf(secrets, user)
  const tokens = secrets.flatMap(({ user: owner, secret, appendOnly }) =>
    owner === user && secret.kind === 'token' ? [{ label: secret.label, appendOnly }] : [],
  )
  return {
    user,
    password: password !== undefined,
    appendOnly: password?.appendOnly ?? false,
    quotaBytes: password?.quotaBytes ?? null,
    tokens,
  }
}
