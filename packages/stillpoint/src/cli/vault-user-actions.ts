/** What `stillpoint vault user` and `token` do. */
import { mkdir } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'
import { storageFailure } from '@stillpoint/repository'
import type { z } from 'zod'
import { readSecret } from '../config/secret.ts'
import { createToken, hashPassword } from '../vault/authentication.ts'
import { changeUsersFile, passwordOf, readUsersFile, type UserSecret } from '../vault/users-file.ts'
import { exitCodes } from './exit-codes.ts'
import { bytesText } from './quantities.ts'
import type { CommandSession } from './session.ts'
import { type PlaceOptions, type VaultPlace, vaultPlace } from './vault-arguments.ts'
import type { AddUserOptions, TokenOptions, vaultUserSchema } from './vault-users.ts'

const passwordCharactersMin = 8

export async function addUser({ host, output }: CommandSession, name: string, options: AddUserOptions) {
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

export async function addToken({ host, output }: CommandSession, name: string, options: TokenOptions) {
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

export async function removeSecrets({ output }: CommandSession, { usersFile }: VaultPlace, { user, label }: Removed) {
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

export async function listUsers({ host, output }: CommandSession, options: PlaceOptions) {
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
