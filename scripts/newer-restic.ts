/**
 * Owns bringing the restic of Debian 13 beside an older one of the system, for the tests: its package is fetched by apt
 * from the system's own mirror, its signatures checked, with lists and cache of its own, and unpacked; nothing is
 * installed. Does nothing where it is there, or where the system's is new enough.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { newerResticFolder, newerResticName, restics } from '@stillpoint/testbed'

const release = 'trixie'
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'

/** Whether it is here now. */
export function bringNewerRestic(): boolean {
  if (restics.every(({ isHere }) => isHere)) return true
  const mirror = debianMirror()
  if (mirror === undefined) return false
  console.error(`Fetching the restic of Debian's ${release}, for the tests`)
  const scratch = mkdtempSync(join(tmpdir(), 'stillpoint-restic-'))
  try {
    for (const folder of ['lists/partial', 'cache/archives/partial', 'unpacked'])
      mkdirSync(join(scratch, folder), { recursive: true })
    writeFileSync(join(scratch, 'sources'), `deb [signed-by=${keyring}] ${mirror} ${release} main\n`)
    const own = [
      `Dir::State::Lists=${scratch}/lists`,
      `Dir::Cache=${scratch}/cache`,
      `Dir::Etc::SourceList=${scratch}/sources`,
      'Dir::Etc::SourceParts=/dev/null',
      'APT::Sandbox::User=',
    ].flatMap((option) => ['-o', option])
    if (!run(scratch, 'apt-get', ...own, 'update', '-qq')) return false
    if (!run(scratch, 'apt-get', ...own, 'download', '-qq', `restic/${release}`)) return false
    const name = readdirSync(scratch).find((each) => each.endsWith('.deb'))
    if (name === undefined || !run(scratch, 'dpkg', '-x', name, 'unpacked')) return false
    if (!run(scratch, join(scratch, 'unpacked/usr/bin/restic'), 'version')) return false
    putInPlace(join(scratch, 'unpacked'))
    return true
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** As one step: who is stopped in the middle leaves nothing that looks like a program. */
function putInPlace(unpacked: string): void {
  const beside = `${newerResticFolder}.${process.pid}`
  mkdirSync(dirname(beside), { recursive: true })
  rmSync(beside, { recursive: true, force: true })
  // `cp`, for the temporary directory may be of another file system.
  if (!run(dirname(beside), 'cp', '-r', unpacked, beside)) throw new Error(`cannot copy to ${beside}`)
  rmSync(newerResticFolder, { recursive: true, force: true })
  renameSync(beside, newerResticFolder)
}

/** Where this Debian takes its packages from. */
function debianMirror(): string | undefined {
  const filter = ['Created-By: Packages', 'Origin: Debian', 'Label: Debian', 'Component: main']
  const { stdout, error } = spawnSync('apt-get', ['indextargets', '--format', '$(REPO_URI)', ...filter], {
    encoding: 'utf8',
  })
  const [uri] = error === undefined ? stdout.split('\n') : []
  return uri === undefined || uri === '' ? undefined : uri
}

function run(cwd: string, command: string, ...args: readonly string[]): boolean {
  return spawnSync(command, args, { cwd, stdio: ['ignore', 'ignore', 'inherit'] }).status === 0
}

if (import.meta.main)
  console.log(bringNewerRestic() ? `${newerResticName} is here` : `${newerResticName} could not be brought`)
