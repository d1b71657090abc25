/**
 * The command `stillpoint`, run as a user runs it: a process of its own in the directory of `stillpoint.yaml`.
 *
 * Owns: running it, and checking what it prints. Does not own: what that means.
 */
import { execFile } from 'node:child_process'
import { delimiter } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where npm puts the commands of a checkout. */
const commandFolder = fileURLToPath(new URL('../../node_modules/.bin', import.meta.url))
const commandMsMax = 120_000

/** The JSON object that a command printed. @throws Error with what it said on stderr, when it failed */
function runStillpoint(directory: string, args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const env = { ...process.env, PATH: `${commandFolder}${delimiter}${process.env['PATH'] ?? ''}` }
  const options = { cwd: directory, env, timeout: commandMsMax, maxBuffer: 64 << 20 }
  return new Promise((resolve, reject) => {
    execFile('stillpoint', [...args], options, (error, stdout, stderr) => {
      if (error !== null) {
        const how = error.killed === true ? `took longer than ${commandMsMax} ms` : `ended with code ${error.code}`
        reject(new Error(`stillpoint ${args[0]} ${how}: ${stderr.trim() || stdout.trim() || error.message}`))
        return
      }
      try {
        resolve(fieldsOf(JSON.parse(stdout), `stillpoint ${args[0]}`))
      } catch (cause) {
        reject(new Error(`stillpoint ${args[0]} printed no JSON object: ${stdout.slice(0, 400)}`, { cause }))
      }
    })
  })
}

function fieldsOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${what}: not an object`)
  return { ...value }
}

/** Makes the repository that `stillpoint.yaml` names, where there is none yet. */
export async function makeRepository(directory: string): Promise<void> {
  await runStillpoint(directory, ['init', '--json'])
}

export interface TakenSnapshot {
  readonly id: string
  readonly verdict: string
  readonly pauseMs: number
}

export async function takeSnapshot(directory: string): Promise<TakenSnapshot> {
  const { id, verdict, pauseMs } = await runStillpoint(directory, ['take', '--json'])
  if (typeof id !== 'string' || typeof verdict !== 'string' || typeof pauseMs !== 'number') {
    throw new Error('stillpoint take: id, verdict or pauseMs is missing')
  }
  return { id, verdict, pauseMs }
}

/** @returns the names of the participants that were restored, and whose checks all passed */
export async function restoreSnapshot(
  directory: string,
  options: { readonly id: string; readonly to: string },
): Promise<readonly string[]> {
  const { participants } = await runStillpoint(directory, ['restore', options.id, '--to', options.to, '--json'])
  if (!Array.isArray(participants)) throw new Error('stillpoint restore: participants are missing')
  return participants.flatMap((participant: unknown) => {
    const { name, outcome, checks } = fieldsOf(participant, 'stillpoint restore: participants')
    const passed =
      Array.isArray(checks) && checks.every((check: unknown) => fieldsOf(check, 'checks')['passed'] === true)
    return typeof name === 'string' && outcome === 'restored' && passed ? [name] : []
  })
}
