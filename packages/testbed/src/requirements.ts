/** The external programs that the test suites and examples use, and the Debian packages that have them. */
import { existsSync } from 'node:fs'
import { hasTool } from './tools.ts'

export interface Requirement {
  readonly tool: string
  /** Where it is a library: what its package installs. */
  readonly folder?: string
  /** Name of the Debian package. */
  readonly package: string
  /** What is left out without it. Suites carry it in their names: `… [needs postgresql]`. */
  readonly neededFor: string
}

/** Where Debian has Swift's library. */
export const swiftFolder = '/usr/lib/python3/dist-packages/swift'

export const requirements: readonly Requirement[] = [
  { tool: 'initdb', package: 'postgresql', neededFor: 'a PostgreSQL server of the tests’ own' },
  { tool: 'postgres', package: 'postgresql', neededFor: 'a PostgreSQL server of the tests’ own' },
  { tool: 'psql', package: 'postgresql-client', neededFor: 'setting up databases' },
  { tool: 'pg_dump', package: 'postgresql-client', neededFor: 'capturing PostgreSQL databases' },
  { tool: 'pg_restore', package: 'postgresql-client', neededFor: 'restoring PostgreSQL databases' },
  {
    tool: 'redis-server',
    package: 'redis-server',
    neededFor: 'a Redis server of the tests’ own, and restoring into Redis',
  },
  { tool: 'openssl', package: 'openssl', neededFor: 'making certificates for the tests of TLS' },
  { tool: 'setfattr', package: 'attr', neededFor: 'extended attributes of files' },
  { tool: 'setfacl', package: 'acl', neededFor: 'ACLs of files' },
  { tool: 'script', package: 'bsdutils', neededFor: 'a terminal of the tests’ own' },
  { tool: 'restic', package: 'restic', neededFor: 'proving that repositories are compatible with restic' },
  { tool: 'ncdu', package: 'ncdu', neededFor: 'proving that it reads what `repo ls --ncdu` writes' },
  { tool: 'borg', package: 'borgbackup', neededFor: 'the benchmark, beside restic' },
  { tool: 'time', package: 'time', neededFor: 'what a command of the benchmark costs' },
  {
    // The library alone: what brings its services brings syslog and uwsgi, too, and starts them.
    tool: 'OpenStack Swift',
    folder: swiftFolder,
    package: 'python3-swift',
    neededFor: 'an S3 server of the tests’ own',
  },
  ...(['ceph-mon', 'ceph-osd', 'radosgw'] as const).map((name) => ({
    tool: name,
    package: name,
    neededFor: 'an S3 server with Object Lock of the tests’ own',
  })),
]

export function missingRequirements(): readonly Requirement[] {
  return requirements.filter(({ tool, folder }) => !(folder === undefined ? hasTool(tool) : existsSync(folder)))
}

/** The packages to install, each once, in the order of `requirements`. */
export function packagesOf(missing: readonly Requirement[]): readonly string[] {
  return [...new Set(missing.map((requirement) => requirement.package))]
}
