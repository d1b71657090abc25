/**
 * Whether a process may have a session, and in which state it begins: the rules of the welcome, and the words of every
 * refusal.
 */
import type { ProcessFrame, RestoreOffer } from '@stillpoint/core'
import { Failure } from '@stillpoint/core/kernel'
import type { Catalog, SystemCounters } from '../catalog/catalog.ts'

export type Hello = Extract<ProcessFrame, { type: 'hello' }>

export interface Admission {
  readonly generation: number
  readonly epoch: number
  readonly restore: RestoreOffer | null
}

/**
 * How far a process may be ahead of the catalog. A catalog that was lost starts from the repository and lags by few;
 * a number out of nowhere would use up all epochs of the system at once.
 */
const leadMax = 10_000_000

/**
 * Where the process begins, by what the catalog knows and what the process remembers.
 * @throws Failure `generation_stale` (C9), `position_implausible`
 */
export async function admit(hello: Hello, system: string, catalog: Catalog): Promise<Admission> {
  let counters = await catalog.counters(system)
  if (isAhead(hello, counters)) {
    const { generation, epoch } = hello
    if (epoch - counters.epoch > leadMax || (generation ?? 0) - counters.generation > leadMax) {
      throw implausible(hello, counters)
    }
    counters = await catalog.raise(system, { epoch, ...(generation === null ? {} : { generation }) })
  }
  const pending = await catalog.pendingRestores(system)
  const restore = pending.find(({ participant }) => participant === hello.participant)?.offer ?? null
  // A restore may have switched between the two questions: its generation and epoch came with it.
  const generation = Math.max(counters.generation, restore?.generation ?? 0)
  const epoch = Math.max(counters.epoch, restore?.epoch ?? 0)
  if (restore === null && hello.generation !== null && hello.generation < generation) {
    throw stale(hello, generation)
  }
  return { generation, epoch, restore }
}

function isAhead(hello: Hello, counters: SystemCounters): boolean {
  return hello.epoch > counters.epoch || (hello.generation ?? 0) > counters.generation
}

function implausible({ participant, generation, epoch }: Hello, counters: SystemCounters): Failure {
  return new Failure({
    code: 'position_implausible',
    message: `${participant} says that it is in generation ${generation}, epoch ${epoch}; the system is in generation ${counters.generation}, epoch ${counters.epoch}`,
    hint: 'Check that it joins the right system, then restart it.',
  })
}

function stale({ participant, generation }: Hello, current: number): Failure {
  return new Failure({
    code: 'generation_stale',
    message: `${participant} still has the state of generation ${generation}; the system was restored and is in generation ${current}`,
    hint: `Restart ${participant}, so that it begins with the restored state.`,
  })
}

export const refusals = {
  silent: (helloMs: number) =>
    new Failure({
      code: 'hello_missing',
      message: `The process did not say hello within ${helloMs} ms`,
      retry: 'later',
    }),
  notHello: (why: string) =>
    new Failure({
      code: 'hello_missing',
      message: `The first frame of a session must be a "hello": ${why}`,
      hint: 'docs/format/session.md says how a session begins.',
    }),
  impatient: () =>
    new Failure({ code: 'welcome_not_awaited', message: 'The process sent a frame before it was welcome' }),
  helloAgain: () => new Failure({ code: 'hello_repeated', message: 'The process said hello twice in one session' }),
  tooMany: (connectionsMax: number) =>
    new Failure({
      code: 'connections_exhausted',
      message: `The server has ${connectionsMax} connections, and takes no more`,
      retry: 'later',
    }),
  version: (version: unknown) =>
    new Failure({
      code: 'version_unsupported',
      message: `The process speaks version ${JSON.stringify(version)?.slice(0, 40)} of the session protocol; this server speaks version 1`,
      hint: 'Install the same version of @stillpoint/sdk and stillpoint.',
    }),
  undeclared: (name: string, declared: readonly string[], configPath: string) =>
    new Failure({
      code: 'participant_undeclared',
      message: `"${name}" is not a process of this system; ${
        declared.length === 0 ? 'it has none' : `its processes are: ${shortList(declared)}`
      }`,
      hint: `Add it to "participants" in ${configPath} as "${name}: { process: true }", and restart the server.`,
    }),
  connected: (name: string) =>
    new Failure({
      code: 'participant_connected',
      message: `Another process is connected as "${name}", and answers`,
      hint: 'Each process needs a name of its own. If the other one is to be replaced, stop it first.',
      retry: 'later',
    }),
  otherIncarnation: (name: string, said: string) =>
    new Failure({
      code: 'incarnation_foreign',
      message: `${name} sent evidence of another incarnation (${JSON.stringify(said.slice(0, 64))})`,
    }),
  ended: (name: string, reason: string) =>
    new Failure({
      code: 'session_ended',
      message: `The session of ${name} has ended: ${reason}`,
      hint: 'The process joins again by itself; the cut that it took part in is void.',
      retry: 'later',
    }),
  foreign: (name: string) =>
    new Failure({
      code: 'session_foreign',
      message: `This session is not one of ${name}`,
      hint: 'A process uploads and reads only in its own name, at the agentUrl of its welcome.',
    }),
  cutOver: (cut: string) =>
    new Failure({
      code: 'cut_not_running',
      message: `The cut ${JSON.stringify(cut.slice(0, 64))} is not running, or not for this process`,
    }),
  notOffered: (name: string, restore: string) =>
    new Failure({
      code: 'restore_not_offered',
      message: `The restore ${JSON.stringify(restore.slice(0, 64))} was not offered to ${name} in this session`,
    }),
} as const

function shortList(names: readonly string[]): string {
  return names.length <= 20 ? names.join(', ') : `${names.slice(0, 20).join(', ')} and ${names.length - 20} more`
}
