/** What users and tokens of a vault may be called, and where they are listed. Loads nothing: commands ask it at start. */

/** In the directory of the vault. */
export const usersFileName = '.users'
const userPattern = /^[a-z0-9][a-z0-9._-]{0,63}$/
const labelPattern = /^[A-Za-z0-9._-]{1,64}$/
/** Would be taken for something else in a URL. */
const reserved = new Set(['config', 'data', 'index', 'keys', 'locks', 'metrics', 'snapshots'])

/** Why a name is refused, or undefined. */
export function userNameProblem(name: string): string | undefined {
  if (!userPattern.test(name)) {
    return 'A user has 1 to 64 lower-case letters, digits, ".", "_" or "-", and begins with a letter or digit.'
  }
  return reserved.has(name) ? `"${name}" is a folder of repositories, and no user.` : undefined
}

export function labelProblem(label: string): string | undefined {
  return labelPattern.test(label) ? undefined : 'A label has 1 to 64 letters, digits, ".", "_" or "-".'
}
