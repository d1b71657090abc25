/**
 * The checks of `stillpoint doctor`: what this machine lacks for this configuration.
 *
 * Owns: the checks, one function per subject, each answering facts and never throwing for what it looks for.
 * Does not own: what a store needs: its source's `open` and `prepare` say, as they do before a snapshot.
 *
 * Nothing is held, nothing is written except one small file in the repository's directory, which is removed.
 */
import { access, constants, mkdtemp, open, rm, stat, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type CutId, describeFailure, type FailureReport, isFailure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import { repositoryAddress, type StoreConfig, type SystemConfig, storesIn } from '../config/system-config.ts'
import { openConfiguredRepository } from '../coordinator/open-repository.ts'
import { openSource } from '../sources/registry.ts'
import { bytesText, countText, elapsedText } from './quantities.ts'
import { randomHex } from './random-text.ts'
import type { CommandHost } from './session.ts'

const checkMsMax = 20_000
const freeBytesMin = 256 * 1024 * 1024
const clockSkewMsMax = 5_000
/** No machine of today has an earlier date: its clock is not set. */
const earliestWallMs = Date.UTC(2025, 0, 1)
const nodeMajorMin = 24

export const doctorCheckSchema = z.looseObject({
  subject: z.string().describe('The participant, or `machine`, `repository`, `state`, `server`'),
  check: z.string(),
  status: z
    .enum(['ok', 'warning', 'missing'])
    .describe('`missing`: snapshots cannot be taken or stored until it is there'),
  detail: z.string(),
  code: z.string().exactOptional().describe('Where a failure says so; docs/errors.md'),
  hint: z.string().exactOptional().describe('How to get it'),
})
export type DoctorCheck = z.output<typeof doctorCheckSchema>

export const doctorResultSchema = z.looseObject({
  passed: z.boolean().describe('Nothing is missing'),
  checks: z.array(doctorCheckSchema),
})

export function checkMachine({ clock }: CommandHost, nodeVersion: string): readonly DoctorCheck[] {
  const nodeFits = Number(nodeVersion.split('.')[0]) >= nodeMajorMin
  const node: DoctorCheck = nodeFits
    ? { subject: 'machine', check: 'Node', status: 'ok', detail: nodeVersion }
    : {
        subject: 'machine',
        check: 'Node',
        status: 'missing',
        detail: `${nodeVersion} is too old`,
        hint: `Install Node ${nodeMajorMin} or newer.`,
      }
  const wallMs = clock.wallMs()
  const now = new Date(wallMs).toISOString()
  const time: DoctorCheck =
    wallMs >= earliestWallMs
      ? { subject: 'machine', check: 'clock', status: 'ok', detail: now }
      : {
          subject: 'machine',
          check: 'clock',
          status: 'missing',
          detail: `it says ${now}`,
          hint: 'Set the clock: apt-get install systemd-timesyncd, or chrony.',
        }
  return [node, time]
}

export async function checkRepository(host: CommandHost, config: SystemConfig): Promise<readonly DoctorCheck[]> {
  const { path } = config.repository
  const address = repositoryAddress(config.repository)
  const { clock, random, entropy } = host
  const subject = 'repository'
  const checks: DoctorCheck[] = []
  const note = (detail: string) => checks.push({ subject, check: 'password file', status: 'warning', detail })
  const opened = await attempt(subject, 'open', async () => {
    const signal = limited(host.signal)
    const env = { clock, random, entropy, note, signal, requestSignal: signal }
    const repository = await openConfiguredRepository(config, env)
    const snapshots = await repository.snapshots()
    return { value: repository, detail: `${address}, ${countText(snapshots.length, 'snapshot')}` }
  })
  checks.push(opened.check)
  // What space a server has, it says when it is full.
  if (path === undefined) return checks
  if (opened.value === undefined) return [...checks, ...(await checkSpace(subject, path))]
  return [...checks, ...(await checkSpace(subject, path)), await checkClockOf(path, host)]
}

/** Free space where the path is, or will be. */
export async function checkSpace(subject: string, path: string, neededBytes = 0): Promise<readonly DoctorCheck[]> {
  const existing = await nearestExisting(path)
  const space = await attempt(subject, 'space', async () => {
    const { bavail, bsize } = await statfs(existing)
    return { value: bavail * bsize, detail: `${bytesText(bavail * bsize)} free` }
  })
  if (space.value === undefined) return [space.check]
  const least = Math.max(freeBytesMin, neededBytes)
  if (space.value >= least) return [space.check]
  const hint = `Make room for at least ${bytesText(least)} on the file system of ${existing}.`
  return [{ ...space.check, status: neededBytes > 0 ? 'warning' : 'missing', hint }]
}

async function nearestExisting(path: string): Promise<string> {
  let current = path
  while (current !== dirname(current)) {
    try {
      await stat(current)
      return current
    } catch {
      // Not there, or not to be looked at: the next one up decides on which file system it would be.
      current = dirname(current)
    }
  }
  return current
}

/** The clock of the repository's file system against ours: on a network disk it is another machine's. */
async function checkClockOf(path: string, host: CommandHost): Promise<DoctorCheck> {
  const name = join(path, `.doctor-${randomHex(host.entropy, 8)}`)
  const result = await attempt('repository', 'writable', async () => {
    const file = await open(name, 'wx', 0o600)
    try {
      const wallMs = host.clock.wallMs()
      await file.writeFile('written by "stillpoint doctor"; may be removed\n')
      return { value: Math.abs((await file.stat()).mtimeMs - wallMs), detail: 'yes' }
    } finally {
      await file.close()
      await rm(name, { force: true })
    }
  })
  if (result.value === undefined || result.value <= clockSkewMsMax) return result.check
  const detail = `its clock and this machine's differ by ${elapsedText(result.value)}`
  return { subject: 'repository', check: 'clock', status: 'warning', detail, hint: 'Run NTP on both machines.' }
}

export async function checkStateDir(config: SystemConfig): Promise<DoctorCheck> {
  const result = await attempt('state', 'directory', async () => {
    const existing = await nearestExisting(config.stateDir)
    await access(existing, constants.W_OK | constants.X_OK)
    const detail = existing === config.stateDir ? config.stateDir : `${config.stateDir} can be made`
    return { value: existing, detail }
  })
  return result.check
}

export interface StoreChecks {
  readonly checks: readonly DoctorCheck[]
  readonly estimateBytes: number
}

/** Tools, connection, password, version, privileges: as before a snapshot, and nothing is held. */
export async function checkStore(host: CommandHost, config: SystemConfig, store: StoreConfig): Promise<StoreChecks> {
  const scratchDir = await mkdtemp(join(tmpdir(), 'stillpoint-doctor-'))
  const notes: DoctorCheck[] = []
  const note = (detail: string) => notes.push({ subject: store.name, check: 'note', status: 'warning', detail })
  try {
    const env = { clock: host.clock, baseDir: config.baseDir, scratchDir, note }
    const ready = await attempt(store.name, store.source, async () => {
      const session = await openSource(store.source, store.options, env, limited(host.signal))
      try {
        // No cut has this id: nothing else is ever asked of it.
        const cut = `doctor-${randomHex(host.entropy, 8)}` as CutId
        const readiness = await session.prepare(cut, limited(host.signal))
        await session.release(cut)
        if (session.traits.hold === 'none' && store.writers === 'unknown') notes.push(unheld(store))
        return { value: readiness, detail: `${readiness.version}, about ${bytesText(readiness.estimateBytes)}` }
      } finally {
        await session.close()
      }
    })
    for (const text of ready.value?.notes ?? []) note(text)
    return { checks: [ready.check, ...notes], estimateBytes: ready.value?.estimateBytes ?? 0 }
  } finally {
    await rm(scratchDir, { recursive: true, force: true })
  }
}

/** It can be marked only while nobody writes, and a snapshot under load may be refused: better said now. */
function unheld({ name, source }: StoreConfig): DoctorCheck {
  return {
    subject: name,
    check: 'hold',
    status: 'warning',
    code: 'hold_unavailable',
    detail: 'nothing can hold its writers: a snapshot is taken only if it stands still for a moment',
    hint: `Name the processes that write it (writers: […]), or give commands that hold them (docs/configuration.md, source ${source}).`,
  }
}

export async function checkStores(host: CommandHost, config: SystemConfig): Promise<StoreChecks> {
  const results: StoreChecks[] = []
  // One after the other: a report in the order of the file is worth more than a second.
  for (const store of storesIn(config)) {
    host.signal.throwIfAborted()
    results.push(await checkStore(host, config, store))
  }
  const estimateBytes = results.reduce((sum, each) => sum + each.estimateBytes, 0)
  return { checks: results.flatMap(({ checks }) => checks), estimateBytes }
}

interface Attempt<T> {
  readonly check: DoctorCheck
  readonly value?: T
}

async function attempt<T>(
  subject: string,
  check: string,
  action: () => Promise<{ readonly value: T; readonly detail: string }>,
): Promise<Attempt<T>> {
  try {
    const { value, detail } = await action()
    return { check: { subject, check, status: 'ok', detail }, value }
  } catch (error) {
    const { code, message, hint } = reportOf(error)
    return {
      check: { subject, check, status: 'missing', detail: message, code, ...(hint === undefined ? {} : { hint }) },
    }
  }
}

function reportOf(error: unknown): FailureReport {
  if (!isFailure(error) && error instanceof Error && error.name === 'TimeoutError') {
    return { code: 'check_timed_out', message: `no answer within ${checkMsMax / 1000} seconds`, retry: 'later' }
  }
  return describeFailure(error)
}

function limited(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(checkMsMax)])
}
