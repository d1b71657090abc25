/**
 * Finding the server of a state directory: what `server.json` says, and whether it is still true.
 *
 * A file proves nothing: its server may have been killed, and its pid and port may belong to others by now. So it is
 * asked, and must show that it has the token, before the token is sent there.
 */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { isErrno } from './errno.ts'
import { isProof, readToken } from './token.ts'

export const serverFileName = 'server.json'
export const tokenFileName = 'token'
const probeTimeoutMs = 2_000

/** What `server.json` says. Fields are added, never changed. */
export const serverFileSchema = z.looseObject({
  version: z.literal(1),
  url: z.url({ protocol: /^http$/ }).describe('Base URL of the API'),
  pid: z.int().positive(),
  startedAt: z.iso.datetime().describe('When the server started'),
  system: z.string(),
})
export type ServerFile = z.output<typeof serverFileSchema>

export interface FoundServer {
  readonly url: string
  readonly token: string
  readonly pid: number
}

export const healthSchema = z.looseObject({
  status: z.enum(['ok', 'stopping']),
  proof: z.string().optional(),
})

/**
 * The server that runs on this state directory, or null when there is none or the file is stale.
 * @throws Failure `token_file_*` when the token is there and cannot be used
 */
export async function findServer(stateDir: string, signal?: AbortSignal): Promise<FoundServer | null> {
  const file = await readServerFile(stateDir)
  if (file === null) return null
  const token = await readToken(join(stateDir, tokenFileName))
  if (token === undefined) return null
  if (!(await isOurServer(file.url, token, signal))) return null
  return { url: file.url, token, pid: file.pid }
}

/** What the file says, true or not. Null when it is not there, or is none of ours. */
export async function readServerFile(stateDir: string): Promise<ServerFile | null> {
  let text: string
  try {
    text = await readFile(join(stateDir, serverFileName), 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return null
    throw error
  }
  try {
    return serverFileSchema.parse(JSON.parse(text))
  } catch {
    // Damaged, or written by something else: no server can be found through it, and the next one replaces it.
    return null
  }
}

/** Whether a server that has this token answers there. */
export async function isOurServer(url: string, token: string, signal?: AbortSignal): Promise<boolean> {
  const challenge = randomBytes(16).toString('hex')
  const timeout = AbortSignal.timeout(probeTimeoutMs)
  try {
    const answer = await fetch(new URL(`/healthz?challenge=${challenge}`, url), {
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      redirect: 'error',
    })
    const health = healthSchema.parse(JSON.parse(await textUpTo(answer, 4_096)))
    return health.proof !== undefined && isProof(health.proof, token, challenge)
  } catch {
    signal?.throwIfAborted()
    // Refused, reset, silent, or speaking something else: whatever is there, it is not our server.
    return false
  }
}

async function textUpTo(answer: Response, bytesMax: number): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of answer.body ?? []) {
    text += decoder.decode(chunk, { stream: true })
    if (text.length > bytesMax) throw new Error('the answer is too long')
  }
  return text
}
