/**
 * One branch of the bank, a process of its own: a ledger in SQLite, and transfers to the other branches over the SDK's
 * channels, all the time. Started by bank.ts with its arguments as JSON; orders and news pass over IPC.
 */
import { join as joinStillpoint, type Participant } from '@stillpoint/sdk'
import { systemClock as clock, systemRandom as random } from '../../system-env.ts'
import { type Ledger, openLedger, type Transfer } from './ledger.ts'
import type { BranchArguments, BranchEvent, BranchNews, BranchOrder } from './messages.ts'

/** Mean time between two transfers of a branch, and that booking one takes: a branch is busy, and keeps up. */
const sendEveryMs = 4
const bookMs = 6
const eventsKept = 400
const eventsAfterMs = 150

const below = (bound: number): number => random.uint32() % bound
const pause = (ms: number): Promise<void> => new Promise((resolve) => clock.after(ms, resolve))
const tell = (news: BranchNews): void => {
  // The parent may be gone: then this process is about to be ended, too.
  if (process.connected) process.send?.(news)
}

interface Branch {
  readonly name: string
  readonly ledger: Ledger
  readonly participant: Participant
  readonly peers: Map<string, { send(transfer: Transfer): Promise<void> }>
  /** Counters in memory: what a snapshot takes from the process itself, beside its ledger. */
  readonly counters: { sent: number; booked: number }
  readonly events: BranchEvent[]
  sending: boolean
}

await main(JSON.parse(process.argv[2] ?? '{}') as BranchArguments).catch((error: unknown) => {
  tell({ type: 'failed', message: error instanceof Error ? error.message : String(error) })
  process.exitCode = 1
})

async function main({ name, ledger: path, server, tokenFile }: BranchArguments): Promise<void> {
  const ledger = openLedger(path, (bound) => 1 + below(bound))
  const counters = { sent: 0, booked: 0 }
  const events: BranchEvent[] = []
  const participant = joinStillpoint({
    name,
    server,
    tokenFile,
    // Booking is one transaction together with the transfer's id: delivering a transfer again books it once.
    transactional: true,
    state: {
      capture: () => {
        const atMs = clock.wallMs()
        tell({ type: 'marked', atMs, before: [...events] })
        events.length = 0
        clock.after(eventsAfterMs, () => tell({ type: 'after', after: [...events] }))
        return { ...counters }
      },
      restore: ({ value }) => {
        Object.assign(counters, value)
      },
    },
    onError: (error, during) => {
      process.stderr.write(`${name}: ${during}: ${error instanceof Error ? error.message : String(error)}\n`)
    },
  })
  const branch: Branch = { name, ledger, participant, peers: new Map(), counters, events, sending: false }
  participant.receive('*', async (message) => {
    await pause(1 + below(2 * bookMs))
    if (ledger.deposit(message.json() as unknown as Transfer)) counters.booked += 1
    note(branch, 'handled', message.id)
  })
  process.on('message', (order) => obey(branch, order as BranchOrder))
  process.on('disconnect', () => process.exit(0))
  const { url } = await participant.listen({ host: '127.0.0.1', port: 0 })
  tell({ type: 'listening', url })
  await participant.joined
  tell({ type: 'joined' })
  await sendForever(branch)
}

function obey(branch: Branch, order: BranchOrder): void {
  switch (order.type) {
    case 'peers':
      for (const [peer, url] of Object.entries(order.urls)) {
        if (peer === branch.name || branch.peers.has(peer)) continue
        const channel = branch.participant.channel(peer, { url })
        branch.peers.set(peer, { send: (transfer) => channel.send({ ...transfer }, { id: transfer.id }) })
      }
      return
    case 'send':
      branch.sending = order.on
      return
    case 'report': {
      const { sent, booked } = branch.counters
      return tell({ type: 'report', sent, booked, total: branch.ledger.total() })
    }
  }
}

async function sendForever(branch: Branch): Promise<void> {
  for (;;) {
    await pause(1 + below(2 * sendEveryMs))
    if (branch.sending && branch.peers.size > 0) await branch.participant.run(() => sendOne(branch))
  }
}

/** Withdrawing and sending are one piece of work: no cut can come between them. */
async function sendOne(branch: Branch): Promise<void> {
  const { name: from, ledger, counters } = branch
  const names = [...branch.peers.keys()]
  const to = names[below(names.length)] ?? from
  const id = `${from}-${clock.wallMs().toString(36)}-${random.uint32().toString(36)}`
  const transfer: Transfer = { id, from, to, amount: 1 + below(5_000) }
  if (!ledger.withdraw(transfer)) return
  counters.sent += 1
  note(branch, 'sent', id)
  await branch.peers.get(to)?.send(transfer)
}

function note(branch: Branch, kind: BranchEvent['kind'], message: string): void {
  branch.events.push({ atMs: clock.wallMs(), kind, message })
  if (branch.events.length > eventsKept) branch.events.shift()
}
