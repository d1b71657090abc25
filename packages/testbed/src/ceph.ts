/**
 * A real Ceph cluster that speaks S3, on the loopback with its data in a temporary directory: a monitor, storage daemons
 * (BlueStore, each in a sparse file) and an object gateway (`radosgw`). It has what Swift has not: Object Lock, versions
 * and conditional uploads. Storage daemons and the gateway can be killed and started again one by one.
 *
 * Runs as whoever starts it, root or not. Every copy of an object is on another storage daemon; with one of them, objects
 * have one copy.
 *
 * Not there: a manager daemon (statistics and balancing), TLS (Swift has it), and Ceph's own authentication: whoever is
 * on this machine while it runs may talk to its daemons. Users of the gateway have keys, as everywhere.
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '@stillpoint/core/kernel'
import { type CephLayout, cephConfig, cephHost as host, cephHostStyleDomain as hostStyleDomain } from './ceph-config.ts'
import { type Daemon, type DaemonControl, daemon } from './daemon.ts'
import { temporaryDirectory } from './directory.ts'
import { freePort, onFreePorts } from './port.ts'
import { hasTool } from './tools.ts'

export interface CephOptions {
  /** Default: 1. With two or more, objects have two copies, and one daemon may be down. */
  readonly storageDaemons?: 1 | 2 | 3
}

export interface CephUser {
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

export interface CephServer extends CephUser {
  readonly host: string
  /** Plain HTTP. */
  readonly port: number
  /** `http://host:port`, without a slash at its end. */
  readonly endpoint: string
  /** The server also answers to `BUCKET.` + this name, which no resolver knows. */
  readonly hostStyleDomain: string
  readonly region: string
  /** Credentials and region as `restic` and AWS' tools read them. */
  readonly env: Readonly<Record<'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY' | 'AWS_REGION', string>>
  /** All is in here, and removed with it. */
  readonly folder: string
  readonly gateway: DaemonControl
  readonly storage: readonly DaemonControl[]
  /** Another user of the gateway, who may do nothing in the buckets of others unless their policies say so. */
  addUser(name: string): Promise<CephUser>
  log(): Promise<string>
  /** Ends all and removes it. Idempotent. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** That of Ceph's gateway where nobody has named another. */
const region = 'default'
const commandMsMax = 60_000
const run = promisify(execFile)
const programs = ['ceph-mon', 'ceph-osd', 'radosgw', 'radosgw-admin', 'ceph', 'monmaptool'] as const

export function hasCeph(): boolean {
  return programs.every((name) => hasTool(name))
}

/** @throws Failure `tool_missing` | `server_did_not_start` */
export async function startCeph(options: CephOptions = {}): Promise<CephServer> {
  if (!hasCeph()) {
    const hint = 'Install the packages ceph-mon, ceph-osd and radosgw.'
    throw new Failure({ code: 'tool_missing', message: 'no Ceph', hint })
  }
  return onFreePorts(() => start(options))
}

async function start({ storageDaemons = 1 }: CephOptions): Promise<CephServer> {
  const directory = await temporaryDirectory('ceph')
  const daemons: Daemon[] = []
  const stop = async () => {
    // Nothing of it is to be kept, so none is asked.
    await Promise.all(daemons.map((each) => each.kill()))
    await directory.remove()
  }
  try {
    const ports = { monitorPort: await freePort(), port: await freePort() }
    const layout = { folder: directory.path, clusterId: randomUUID(), storageDaemons, ...ports }
    await layOut(layout)
    const monitor = monitorOf(layout)
    const storage = Array.from({ length: storageDaemons }, (_, id) => storageOf(layout, id))
    const gateway = gatewayOf(layout)
    daemons.push(monitor, ...storage, gateway)
    const ids = storage.map(() => randomUUID())
    await all([...makeStores(layout, ids), monitor.start().then(() => announce(layout, ids))])
    await all(storage.map((each) => each.start()))
    await gateway.start()
    const user = await addUser(layout, 'tester')
    const names = ['monitor', 'gateway', ...ids.map((_, id) => `storage${id}`)]
    return {
      ...user,
      host,
      port: layout.port,
      endpoint: `http://${host}:${layout.port}`,
      hostStyleDomain,
      region,
      env: { AWS_ACCESS_KEY_ID: user.accessKeyId, AWS_SECRET_ACCESS_KEY: user.secretAccessKey, AWS_REGION: region },
      folder: layout.folder,
      gateway,
      storage,
      addUser: (name) => addUser(layout, name),
      log: async () => (await Promise.all(names.map((name) => readFile(logFileOf(layout, name), 'utf8')))).join(''),
      stop,
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

const configOf = ({ folder }: CephLayout) => join(folder, 'ceph.conf')
const logFileOf = ({ folder }: CephLayout, name: string) => join(folder, `${name}.log`)

async function layOut(layout: CephLayout): Promise<void> {
  const { folder, clusterId, monitorPort } = layout
  for (let id = 0; id < layout.storageDaemons; id += 1) await mkdir(join(folder, `osd${id}`))
  await Promise.all([mkdir(join(folder, 'mon')), mkdir(join(folder, 'gateway'))])
  await writeFile(configOf(layout), cephConfig(layout), { mode: 0o600 })
  const map = join(folder, 'monmap')
  const address = `[v2:${host}:${monitorPort}]`
  await command(layout, 'monmaptool', ['--create', '--fsid', clusterId, '--addv', 'a', address, map])
  await command(layout, 'ceph-mon', ['--mkfs', '-i', 'a', '--monmap', map])
}

async function command(
  layout: CephLayout,
  program: (typeof programs)[number],
  args: readonly string[],
): Promise<string> {
  const all = ['-c', configOf(layout), ...args]
  const options = { cwd: '/', timeout: commandMsMax, maxBuffer: 1 << 26, env: environment }
  try {
    return (await run(program, all, options)).stdout
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error)
    const message = `${program} ${args.join(' ')} failed:\n${said.slice(-2000)}`
    throw new Failure({ code: 'server_did_not_start', message, retry: 'later', cause: error })
  }
}

const environment = { PATH: `${process.env['PATH'] ?? ''}:/usr/bin:/bin:/usr/sbin:/sbin`, LC_ALL: 'C.UTF-8' }

/** Waits for all, also where one has failed: nothing of ours may still run when the directory is removed. */
async function all(steps: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(steps)) if (outcome.status === 'rejected') throw outcome.reason
}

/** The empty stores, while the monitor starts. */
function makeStores(layout: CephLayout, ids: readonly string[]): readonly Promise<unknown>[] {
  const make = (id: string, at: number) =>
    command(layout, 'ceph-osd', ['--mkfs', '-i', String(at), '--osd-uuid', id, '--no-mon-config'])
  return ids.map(make)
}

/** In this order they get the numbers 0, 1, … */
async function announce(layout: CephLayout, ids: readonly string[]): Promise<void> {
  for (const id of ids) await command(layout, 'ceph', ['osd', 'new', id])
}

async function addUser(layout: CephLayout, name: string): Promise<CephUser> {
  // It makes the keys itself: none is in the list of processes.
  const said = await command(layout, 'radosgw-admin', [
    ...['-n', 'client.rgw', 'user', 'create'],
    ...['--uid', name, '--display-name', name],
  ])
  const [, accessKeyId] = /"access_key": "([^"]+)"/.exec(said) ?? []
  const [, secretAccessKey] = /"secret_key": ("[^"]+")/.exec(said) ?? []
  if (accessKeyId === undefined || secretAccessKey === undefined) throw new Error('a new user has keys')
  return { accessKeyId, secretAccessKey: String(JSON.parse(secretAccessKey)) } // it may have an escaped slash
}

function monitorOf(layout: CephLayout): Daemon {
  return cephDaemon(layout, {
    name: 'monitor',
    program: 'ceph-mon',
    args: ['-i', 'a'],
    isReady: () => isListening(layout.monitorPort),
  })
}

function storageOf(layout: CephLayout, id: number): Daemon {
  return cephDaemon(layout, {
    name: `storage${id}`,
    program: 'ceph-osd',
    args: ['-i', String(id)],
    isReady: async (log) => /state: booting -> active/.test(log),
  })
}

function gatewayOf(layout: CephLayout): Daemon {
  return cephDaemon(layout, {
    name: 'gateway',
    program: 'radosgw',
    args: ['-n', 'client.rgw'],
    isReady: () => isServing(`http://${host}:${layout.port}/`),
  })
}

interface Program {
  readonly name: string
  readonly program: (typeof programs)[number]
  readonly args: readonly string[]
  readonly isReady: (log: string) => Promise<boolean>
}

function cephDaemon(layout: CephLayout, { name, program, args, isReady }: Program): Daemon {
  return daemon({
    name: `ceph ${name}`,
    program,
    args: ['-f', '-c', configOf(layout), ...args],
    env: environment,
    logFile: logFileOf(layout, name),
    isReady,
    stopSignal: 'SIGTERM',
    lastSignal: 'KILL',
  })
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const answer = (isThere: boolean) => {
      socket.destroy()
      resolve(isThere)
    }
    socket.once('connect', () => answer(true))
    socket.once('error', () => answer(false))
  })
}

async function isServing(url: string): Promise<boolean> {
  try {
    const { status } = await fetch(url, { signal: AbortSignal.timeout(5_000) })
    return status === 200
  } catch {
    return false // not yet: asked again until the daemon's time is over
  }
}
