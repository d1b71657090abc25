/**
 * A real OpenStack Swift cluster that speaks S3, on free ports of the loopback with its data in a temporary directory:
 * a proxy with Swift's `s3api`, and storage nodes that can be killed one by one. Each node is one process with an
 * account, a container and an object server; every object has a replica on as many nodes as `replicas` says.
 *
 * It is there twice, over TLS and without: restic signs what it sends over plain HTTP piece by piece, which Swift 2.30 does
 * not know.
 *
 * Needs a file system with extended attributes below the directory for temporary files: tmpfs has them since Linux 6.6.
 *
 * Not there: auditors, and replicators of objects. A node that was down stays without what it missed, and reads ask the
 * others. Lists are late after an outage, and during it too, until `replicate` has run, which in a cluster goes on all
 * the time.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Failure } from '@stillpoint/core/kernel'
import { type Daemon, type DaemonControl, daemon } from './daemon.ts'
import { temporaryDirectory } from './directory.ts'
import { freePort, onFreePorts } from './port.ts'
import { swiftFolder } from './requirements.ts'

export interface SwiftOptions {
  /** Default: 3. */
  readonly storageNodes?: number
  /** Copies of each object, on different nodes. Default: 3. */
  readonly replicas?: number
}

export interface SwiftServer {
  readonly host: string
  /** Plain HTTP. */
  readonly port: number
  /** `http://host:port`, without a slash at its end. */
  readonly endpoint: string
  readonly tlsPort: number
  readonly tlsEndpoint: string
  /** The certificate of the server: for the address, `localhost`, and `*.` + `hostStyleDomain`. */
  readonly caFile: string
  /** The server also answers to `BUCKET.` + this name, which no resolver knows. */
  readonly hostStyleDomain: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** Credentials and region as `restic` and AWS' tools read them. */
  readonly env: Readonly<Record<'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY' | 'AWS_REGION', string>>
  readonly proxy: DaemonControl
  /** Each ends with all three servers that it is. */
  readonly storage: readonly DaemonControl[]
  /** Brings all lists of all nodes that run up to date. */
  replicate(): Promise<void>
  /** What proxy and nodes have logged since their last start. */
  log(): Promise<string>
  /** Ends all and removes the directory. Idempotent. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Debian's Python has Debian's Swift; another one on the PATH has not. */
const python = '/usr/bin/python3'
const program = fileURLToPath(new URL('./swift-server.py', import.meta.url))
const host = '127.0.0.1'
const region = 'us-east-1'
const hostStyleDomain = 's3.stillpoint.test'
const run = promisify(execFile)
const kinds = ['account', 'container', 'object'] as const

/** Whether the package python3-swift is installed. */
export function hasSwift(): boolean {
  return existsSync(python) && existsSync(swiftFolder)
}

/** @throws Failure `tool_missing` | `server_did_not_start` */
export async function startSwift(options: SwiftOptions = {}): Promise<SwiftServer> {
  if (!hasSwift()) {
    throw new Failure({
      code: 'tool_missing',
      message: 'no OpenStack Swift',
      hint: 'Install the package python3-swift.',
    })
  }
  return onFreePorts(() => start(options))
}

async function start({ storageNodes = 3, replicas = 3 }: SwiftOptions): Promise<SwiftServer> {
  const directory = await temporaryDirectory('swift')
  const daemons: Daemon[] = []
  const stop = async () => {
    // Nothing of it is to be kept, so none is asked.
    await Promise.all(daemons.map((each) => each.kill()))
    await directory.remove()
  }
  try {
    const secretAccessKey = randomBytes(16).toString('hex')
    const layout = await layOut(directory.path, { storageNodes, secretAccessKey })
    await Promise.all([makeRings(layout, replicas), makeCertificate(layout.tls)])
    daemons.push(...layout.processes.map((each) => swiftDaemon(layout, each)))
    await Promise.all(daemons.map((each) => each.start()))
    const [proxy, ...storage] = daemons
    if (proxy === undefined) throw new Error('a cluster has a proxy')
    const accessKeyId = 'stillpoint:tester'
    const logs = async () => Promise.all(layout.processes.map(({ name }) => readFile(logFileOf(layout, name), 'utf8')))
    return {
      host,
      port: layout.port,
      endpoint: `http://${host}:${layout.port}`,
      tlsPort: layout.tls.port,
      tlsEndpoint: `https://${host}:${layout.tls.port}`,
      caFile: layout.tls.certFile,
      hostStyleDomain,
      region,
      accessKeyId,
      secretAccessKey,
      env: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: region },
      proxy,
      storage,
      replicate: () => replicate(layout, daemons),
      log: async () => (await logs()).join(''),
      stop,
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

type Kind = (typeof kinds)[number]

interface SwiftProcess {
  readonly name: string
  /** Server and configuration, as swift-server.py takes them. */
  readonly servers: readonly string[]
  /** Of a storage node. */
  readonly containerFile?: string
}

interface Tls {
  readonly port: number
  readonly certFile: string
  readonly keyFile: string
}

interface Layout {
  readonly folder: string
  readonly port: number
  readonly tls: Tls
  readonly ports: Readonly<Record<Kind, readonly number[]>>
  /** The proxy first. */
  readonly processes: readonly SwiftProcess[]
}

interface LayoutOptions {
  readonly storageNodes: number
  readonly secretAccessKey: string
}

async function layOut(folder: string, { storageNodes, secretAccessKey }: LayoutOptions): Promise<Layout> {
  const hash = randomBytes(8).toString('hex')
  const common = `[swift-hash]\nswift_hash_path_suffix = ${hash}\n[storage-policy:0]\nname = all\ndefault = yes\n`
  await writeFile(join(folder, 'swift.conf'), common)
  const port = await freePort()
  const tls = { port: await freePort(), certFile: join(folder, 'server.crt'), keyFile: join(folder, 'server.key') }
  const [plainFile, tlsFile] = [join(folder, 'proxy.conf'), join(folder, 'proxy-tls.conf')]
  await writeFile(plainFile, proxyConfig({ folder, port, secretAccessKey }), { mode: 0o600 })
  await writeFile(tlsFile, proxyConfig({ folder, port: tls.port, tls, secretAccessKey }), { mode: 0o600 })
  const proxy = [`proxy-server=${plainFile}`, `proxy-server=${tlsFile}`]
  const processes: SwiftProcess[] = [{ name: 'proxy', servers: proxy }]
  const ports: Record<Kind, number[]> = { account: [], container: [], object: [] }
  for (let at = 0; at < storageNodes; at += 1) {
    await mkdir(join(folder, `node${at}`, `disk${at}`), { recursive: true })
    const servers: string[] = []
    for (const kind of kinds) {
      const port = await freePort()
      ports[kind].push(port)
      const file = join(folder, `node${at}`, `${kind}.conf`)
      await writeFile(file, storageConfig({ folder, port, kind, devices: join(folder, `node${at}`) }))
      servers.push(`${kind}-server=${file}`)
    }
    const containerFile = join(folder, `node${at}`, 'container.conf')
    processes.push({ name: `node${at}`, servers, containerFile })
  }
  return { folder, port, tls, ports, processes }
}

interface ServerPlace {
  readonly folder: string
  readonly port: number
}

function defaults({ folder, port }: ServerPlace): readonly string[] {
  return [
    '[DEFAULT]',
    `bind_ip = ${host}`,
    `bind_port = ${port}`,
    'bind_timeout = 1',
    `swift_dir = ${folder}`,
    'log_level = WARNING',
    // No syslog of the machine: its socket is looked for where there is none.
    `log_address = ${join(folder, 'no-syslog')}`,
    'log_custom_handlers = swift_server.log_to_stderr',
  ]
}

function proxyConfig(place: ServerPlace & { readonly secretAccessKey: string; readonly tls?: Tls }): string {
  return [
    ...defaults(place),
    ...(place.tls === undefined ? [] : [`cert_file = ${place.tls.certFile}`, `key_file = ${place.tls.keyFile}`]),
    '[pipeline:main]',
    'pipeline = catch_errors gatekeeper healthcheck memory_cache s3api tempauth copy slo dlo proxy-server',
    '[app:proxy-server]',
    'use = egg:swift#proxy',
    'account_autocreate = yes',
    // A machine that is busy with other tests is not a node that is down.
    'conn_timeout = 3',
    'node_timeout = 20',
    'post_quorum_timeout = 5',
    '[filter:tempauth]',
    'use = egg:swift#tempauth',
    `user_stillpoint_tester = ${place.secretAccessKey} .admin`,
    '[filter:memory_cache]',
    'paste.filter_factory = swift_server:cache_filter',
    '[filter:s3api]',
    'use = egg:swift#s3api',
    `location = ${region}`,
    `storage_domain = ${hostStyleDomain}`,
    // Lists have pages in tests too.
    'max_bucket_listing = 50',
    ...['catch_errors', 'gatekeeper', 'healthcheck', 'copy', 'slo', 'dlo'].flatMap((name) => [
      `[filter:${name}]`,
      `use = egg:swift#${name}`,
    ]),
    '',
  ].join('\n')
}

function storageConfig(place: ServerPlace & { readonly kind: Kind; readonly devices: string }): string {
  return [
    ...defaults(place),
    `devices = ${place.devices}`,
    'mount_check = false',
    'disable_fallocate = true',
    'fallocate_reserve = 0',
    '[pipeline:main]',
    `pipeline = ${place.kind}-server`,
    `[app:${place.kind}-server]`,
    `use = egg:swift#${place.kind}`,
    // What is late in a list is late in ours, too: wait for it rather than leave it to an updater.
    ...(place.kind === 'object' ? ['container_update_timeout = 10'] : []),
    'conn_timeout = 3',
    'node_timeout = 20',
    ...(place.kind === 'container' ? ['[container-replicator]', `recon_cache_path = ${place.devices}`] : []),
    '',
  ].join('\n')
}

async function makeRings({ folder, ports }: Layout, replicas: number): Promise<void> {
  const args = [program, 'rings', folder, String(replicas), JSON.stringify(ports)]
  await run(python, args, { cwd: '/', env: environment })
}

async function makeCertificate({ certFile, keyFile }: Tls): Promise<void> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile]
  const names = `subjectAltName=IP:${host},DNS:localhost,DNS:${hostStyleDomain},DNS:*.${hostStyleDomain}`
  const args = ['req', '-x509', ...key, '-out', certFile, '-days', '2', '-subj', `/CN=${host}`, '-addext', names]
  await run('openssl', args, { cwd: '/' })
}

/** No `.pyc` files beside our program; and no resolver of eventlet's own, which takes long to load. */
const environment = {
  PATH: '/usr/bin:/bin',
  LC_ALL: 'C.UTF-8',
  PYTHONDONTWRITEBYTECODE: '1',
  EVENTLET_NO_GREENDNS: 'yes',
}
const logFileOf = ({ folder }: Layout, name: string) => join(folder, `${name}.log`)

async function replicate(layout: Layout, daemons: readonly Daemon[]): Promise<void> {
  const files = layout.processes.flatMap(({ containerFile }, at) =>
    containerFile === undefined || daemons[at]?.pid() === undefined ? [] : [containerFile],
  )
  await run(python, [program, 'replicate', layout.folder, ...files], { cwd: '/', env: environment })
}

function swiftDaemon(layout: Layout, { name, servers }: SwiftProcess): Daemon {
  return daemon({
    name: `swift ${name}`,
    program: python,
    args: [program, 'serve', layout.folder, ...servers],
    env: environment,
    logFile: logFileOf(layout, name),
    isReady: async (log) => /^serving$/m.test(log),
    stopSignal: 'SIGKILL',
    lastSignal: 'KILL',
  })
}
