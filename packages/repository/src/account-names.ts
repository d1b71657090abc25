/**
 * Owns the names of this machine's users and groups and their numbers, as /etc/passwd and /etc/group tell; nothing else
 * can be asked from Node. Without the files there are none.
 */
import { readFile } from 'node:fs/promises'

/** Names by number. */
export interface AccountNames {
  readonly users: ReadonlyMap<number, string>
  readonly groups: ReadonlyMap<number, string>
}

/** Numbers by name; no name is empty. */
export interface AccountNumbers {
  readonly users: ReadonlyMap<string, number>
  readonly groups: ReadonlyMap<string, number>
}

interface Account {
  readonly name: string
  readonly number: number
}

/** As a text: it is sent to other threads with each task, and a map takes ten times as long. See `accountNamesOf`. */
export async function readAccountNames(): Promise<string> {
  const [users, groups] = await readAccounts()
  return JSON.stringify({ users: [...namesOf(users)], groups: [...namesOf(groups)] })
}

export async function readAccountNumbers(): Promise<AccountNumbers> {
  const [users, groups] = await readAccounts()
  return { users: numbersOf(users), groups: numbersOf(groups) }
}

const lastNames = { text: '', names: undefined as AccountNames | undefined }

/** Of what `readAccountNames` has returned. */
export function accountNamesOf(text: string): AccountNames {
  if (lastNames.names !== undefined && lastNames.text === text) return lastNames.names
  const { users, groups } = JSON.parse(text) as Record<keyof AccountNames, readonly (readonly [number, string])[]>
  const names = { users: new Map(users), groups: new Map(groups) }
  lastNames.text = text
  lastNames.names = names
  return names
}

async function readAccounts(): Promise<readonly [users: readonly Account[], groups: readonly Account[]]> {
  const read = async (path: string) => accountsIn(await readFile(path, 'utf8').catch(() => ''))
  return [await read('/etc/passwd'), await read('/etc/group')]
}

/** To the system, the number after it stands for none. */
const numberMax = 2 ** 32 - 2

/** Of the text of either file, in its order. Comments, and lines that refer to other directories ("+", "-"), have none. */
export function accountsIn(text: string): readonly Account[] {
  return text.split('\n').flatMap((line) => {
    const [name = '', , number = ''] = line.split(':')
    const isAccount = /^[^#+-]/.test(name) && /^\d+$/.test(number) && Number(number) <= numberMax
    return isAccount ? [{ name, number: Number(number) }] : []
  })
}

/** The first name of each number. */
export function namesOf(accounts: readonly Account[]): ReadonlyMap<number, string> {
  const names = new Map<number, string>()
  for (const { name, number } of accounts) if (!names.has(number)) names.set(number, name)
  return names
}

/** The first number of each name. */
export function numbersOf(accounts: readonly Account[]): ReadonlyMap<string, number> {
  const numbers = new Map<string, number>()
  for (const { name, number } of accounts) if (!numbers.has(name)) numbers.set(name, number)
  return numbers
}
