/** The commented `stillpoint.yaml` that `stillpoint init` writes. Pure. */
import { nameProblem } from '../config/schema.ts'
import type { FoundStore } from './discover.ts'

export interface TemplateOptions {
  readonly system: string
  readonly stores: readonly FoundStore[]
}

/** A name that is allowed, made of any text. */
export function nameFrom(text: string, fallback: string): string {
  const name = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 48)
    .replace(/-+$/, '')
  return name === '' || nameProblem(name) !== undefined ? fallback : name
}

export function configTemplate({ system, stores }: TemplateOptions): string {
  const taken = new Set<string>()
  const blocks = stores.flatMap((store) => participantBlocks(store, taken))
  const participants =
    blocks.length > 0
      ? blocks
      : ['  # Nothing was found here. Declare what belongs together:', ...commented(exampleBlock)]
  return `# Stillpoint: one consistent snapshot of all that is declared here.
# All keys: docs/configuration.md. Check this file and the machine with: stillpoint doctor
version: 1
system: ${quoted(system)}

# Snapshots go here, encrypted. Without the password nobody can read them, not even you: keep a copy of it elsewhere.
repository:
  path: ./snapshots
  passwordFile: ./repository-password

# The stores that change together, and the processes that run the SDK.
participants:
${participants.join('\n')}
${processHint}`
}

const processHint = `
  # A Node service that runs the SDK, so that messages in flight are part of the snapshot:
  # orders: { process: true }
  #
  # When such processes alone write a store, say so, and the store itself is never held:
  #   writers: [orders]
`

const exampleBlock = [
  'orders-db:',
  '  source: postgres',
  '  host: localhost',
  '  database: orders',
  '  user: stillpoint',
  '  passwordFile: ./orders-db-password',
  'uploads:',
  '  source: files',
  '  path: ./uploads',
]

function participantBlocks(store: FoundStore, taken: Set<string>): readonly string[] {
  switch (store.kind) {
    case 'postgres':
      return postgresBlocks(store, taken)
    case 'redis': {
      const place =
        'socket' in store.place
          ? [`    host: ${quoted(store.place.socket)}`]
          : [`    host: ${quoted(store.place.host)}`, `    port: ${store.place.port}`]
      const name = unique('redis', taken)
      const password = store.needsPassword
        ? ['    # It asks for a password: put it into this file.', `    passwordFile: ./${name}-password`]
        : []
      return [`  ${name}:`, '    source: redis', ...place, ...password]
    }
    case 'sqlite':
    case 'files': {
      const name = unique(nameFrom(store.path.replace(/\.(sqlite3?|db3?)$/i, ''), store.kind), taken)
      const block = [`  ${name}:`, `    source: ${store.kind}`, `    path: ${quoted(store.path)}`]
      return store.kind === 'files' ? [...block, ...filesHint] : block
    }
  }
}

const filesHint = [
  '    # Nothing holds the writers of a directory by itself: it has to stand still for the moment of the mark.',
  '    # Under steady load name the processes with the SDK that write it,',
  '    #   writers: [orders]',
  '    # or give commands that hold its writers for that moment, and let them go:',
  '    #   quiesceCommand: …',
  '    #   resumeCommand: …',
]

function postgresBlocks(store: Extract<FoundStore, { kind: 'postgres' }>, taken: Set<string>): readonly string[] {
  const { host, port, user, databases } = store
  const where = ['    source: postgres', `    host: ${quoted(host)}`, `    port: ${port}`]
  if (databases !== null) {
    return databases.flatMap((database) => [
      `  ${unique(nameFrom(database, 'postgres'), taken)}:`,
      ...where,
      `    database: ${quoted(database)}`,
      `    user: ${quoted(user)}`,
    ])
  }
  return [
    `  # PostgreSQL answers at ${host}, port ${port}, but "${user}" may not list its databases.`,
    '  # Fill in one block per database, and put the password into the file:',
    ...commented([
      `${unique('postgres', taken)}:`,
      ...where.map((line) => line.slice(2)),
      '  database: …',
      '  user: …',
      '  passwordFile: ./postgres-password',
    ]),
  ]
}

function commented(lines: readonly string[]): readonly string[] {
  return lines.map((line) => `  # ${line}`)
}

function unique(name: string, taken: Set<string>): string {
  let candidate = name
  for (let number = 2; taken.has(candidate); number++) candidate = `${name}-${number}`
  taken.add(candidate)
  return candidate
}

/** A JSON string is a YAML string; plain where it cannot be mistaken for anything else. */
function quoted(text: string): string {
  return /^(?!(?:true|false|null|yes|no|on|off|y|n)$)[a-z./][a-z0-9./_-]*$/i.test(text) ? text : JSON.stringify(text)
}
