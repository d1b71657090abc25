import type { Fact, Order, ProcessMark, RecordedMessage, RestoreOffer } from '@stillpoint/core'
import {
  type ChannelId,
  channelId,
  type Incarnation,
  type MessageId,
  participantName,
  type SessionId,
} from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { ConnectedProcess, ProcessDirectory, ProcessEvent } from './process-directory.ts'
import { quiet, recording, type SystemBench, startSystem } from './system-workbench.ts'

const participants = `
  front: { process: true }
  back: { process: true }
  accounts: { source: sqlite, path: accounts.db, writers: [front] }
  audit: { source: sqlite, path: accounts.db }`

const request = { allowInconsistent: false, tags: [] }
const channel = channelId(participantName('front'), participantName('back'))
const session = 's1' as SessionId

interface Script {
  /** What the process uploads as the state of the channel, of the three messages that were in flight. */
  uploaded: number
  /** The order at which the process is lost. */
  lostAt?: Order['type']
  onRestore: 'restored' | 'restoreFailed'
}

/** Two processes that keep the protocol by a script, with three messages in flight from `front` to `back`. */
class ScriptedProcesses implements ProcessDirectory {
  readonly script: Script
  readonly orders: string[] = []
  readonly offers: RestoreOffer[] = []
  bench: SystemBench | undefined
  #listeners = new Set<(event: ProcessEvent) => void>()
  readonly #processes: ConnectedProcess[] = ['front', 'back'].map((name) => ({
    name: participantName(name),
    incarnation: `i-${name}` as Incarnation,
  }))

  constructor(script: Partial<Script> = {}) {
    this.script = { uploaded: 3, onRestore: 'restored', ...script }
  }

  connected(): readonly ConnectedProcess[] {
    return this.#processes
  }

  subscribe(listener: (event: ProcessEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  offerRestore(to: ConnectedProcess, offer: RestoreOffer): boolean {
    this.offers.push(offer)
    setImmediate(() => {
      const { onRestore: type } = this.script
      const event = { name: to.name, restore: offer.restore }
      this.#emit(type === 'restored' ? { type, ...event } : { type, ...event, message: 'its hook threw' })
    })
    return true
  }

  send(to: ConnectedProcess, order: Order): boolean {
    this.orders.push(`${to.name} ${order.type}`)
    if (order.type === this.script.lostAt && to.name === 'back') {
      setImmediate(() => this.#emit({ type: 'lost', ...to }))
      return true
    }
    setImmediate(async () => {
      for await (const fact of this.#answers(to, order))
        this.#emit({ type: 'fact', from: to.name, incarnation: to.incarnation, fact })
    })
    return true
  }

  #emit(event: ProcessEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  async *#answers(to: ConnectedProcess, order: Order): AsyncGenerator<Fact> {
    const { ref } = order
    switch (order.type) {
      case 'prepare':
        return yield { type: 'ready', ref, incarnation: to.incarnation, estimateBytes: 0, version: 'test', notes: [] }
      case 'quiesce':
        return yield { type: 'held', ref, stage: order.stage, hold: 1 }
      case 'mark':
        yield { type: 'entering', ref }
        if (to.name === 'front') return
        return yield { type: 'marked', ref, evidence: this.#mark(to, order) }
      case 'ownedMarked':
        return yield { type: 'marked', ref, evidence: this.#mark(to, order) }
      case 'resume':
        return yield { type: 'resumed', ref, evidence: { unbroken: true, hold: 1, heldMs: 2 } }
      case 'drain': {
        const recorded = [1, 2, 3].map((seq) => ({ seq, message: `m${seq}` as MessageId }))
        const inbound =
          to.name === 'back' ? [{ channel, session, recorded, missing: [], endedBy: 'counts' as const }] : []
        return yield { type: 'drained', ref, inbound }
      }
      case 'capture':
        return yield { type: 'captured', ref, evidence: await this.#capture(to, order) }
      case 'release':
        return yield { type: 'released', ref }
    }
  }

  #mark(to: ConnectedProcess, { ref }: Order): ProcessMark {
    const isFront = to.name === 'front'
    const sent = [{ channel, session, sent: 3, uncertain: [], fifo: true, volatile: false }]
    const received = [{ channel, session, received: { upTo: 0, beyond: [] }, epochMax: 0 }]
    return {
      kind: 'process',
      incarnation: to.incarnation,
      epochEntered: ref.epoch,
      enteredBy: 'order',
      sent: isFront ? sent : [],
      received: isFront ? [] : received,
      openHandlers: [],
      uncolouredHandled: 0,
      gateMs: 1,
    }
  }

  async #capture(to: ConnectedProcess, { ref }: Order) {
    const captures = this.bench?.operations.captures
    if (captures === undefined) throw new Error('no bench')
    await captures.putState(ref.cut, to.name, 'ledger', bytes(`first of ${to.name}`))
    await captures.putState(ref.cut, to.name, 'ledger', bytes(`state of ${to.name}`))
    if (to.name === 'back') await captures.putChannel(ref.cut, to.name, channel, bytes(this.#lines()))
    return captures.finish(ref.cut, to.name)
  }

  #lines(): string {
    const messages = Array.from({ length: this.script.uploaded }, (_, index): RecordedMessage => {
      const seq = index + 1
      const message = `m${seq}` as MessageId
      return { message, session, seq, epoch: 0, kind: 'message', meta: {}, encoding: 'utf8', payload: `${seq}€` }
    })
    return messages.map((message) => `${JSON.stringify(message)}\n`).join('')
  }
}

/** In small pieces: lines and characters are cut anywhere. */
async function* bytes(text: string): AsyncGenerator<Uint8Array> {
  const all = Buffer.from(text)
  for (let at = 0; at < all.length; at += 7) yield all.subarray(at, at + 7)
}

async function read(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

async function withProcesses(
  script: Partial<Script>,
  body: (bench: SystemBench, processes: ScriptedProcesses) => Promise<void>,
) {
  const processes = new ScriptedProcesses(script)
  const bench = await startSystem({ processes, participants, attempts: 1 })
  processes.bench = bench
  try {
    await body(bench, processes)
  } finally {
    await bench.stop()
  }
}

describe('processes in a cut', () => {
  test('C2 C3 C4 holds, marks, states and messages in flight come together in one verified snapshot', () =>
    withProcesses({}, async (bench, processes) => {
      const taken = await bench.operations.take(request, quiet())
      expect(taken.verdictReasons).toEqual([])
      expect(taken.inFlight).toBe(3)
      expect(taken.channels).toEqual([{ channel, sent: 3, received: 0, inFlight: 3, missing: 0 }])
      expect(taken.participantDetails.map(({ name, grade }) => `${name} ${grade}`).toSorted()).toEqual([
        'accounts owned',
        'audit quiesced',
        'back gated',
        'front gated',
      ])
      const ofFront = processes.orders.filter((order) => order.startsWith('front '))
      expect(ofFront).toEqual(
        ['prepare', 'quiesce', 'mark', 'ownedMarked', 'resume', 'drain', 'capture', 'release'].map(
          (each) => `front ${each}`,
        ),
      )
      const verified = await bench.operations.verify(taken.id, quiet())
      expect(verified.checks.filter(({ passed }) => !passed)).toEqual([])
      expect(verified.checks).toContainEqual({ name: `messages of ${channel}`, passed: true, detail: '3 messages' })
    }))

  test('C6 a channel state that is not what its receiver recorded is never sealed', () =>
    withProcesses({ uploaded: 2 }, async (bench) => {
      await expect(bench.operations.take(request, quiet())).rejects.toMatchObject({
        code: 'channel_state_incomplete',
        message: expect.stringContaining('m3'),
      })
      expect(await bench.operations.list(quiet())).toEqual([])
    }))

  test.each(['prepare', 'quiesce', 'mark', 'resume', 'drain', 'capture'] as const)(
    'C7 one that is lost at %s: the attempt ends, everybody else is released, nothing is stored',
    (lostAt) =>
      withProcesses({ lostAt }, async (bench, processes) => {
        await expect(bench.operations.take(request, quiet())).rejects.toMatchObject({ code: 'participant_lost' })
        expect(processes.orders).toContain('front release')
        expect(await bench.operations.list(quiet())).toEqual([])
        expect(await bench.catalog.openCuts('bank')).toEqual([])
      }),
  )

  test('one that is not connected: nothing is taken without it', () =>
    withProcesses({}, async (bench, processes) => {
      const alone = await bench.reopen({ participants, attempts: 1 })
      const failure = { code: 'participant_absent', hint: expect.stringContaining('stillpoint up') }
      await expect(alone.operations.take(request, quiet())).rejects.toMatchObject(failure)
      expect(processes.orders).toEqual([])
    }))
})

describe('processes in a restore', () => {
  const restore = { snapshot: 'latest', participants: [], replace: true, toConfig: null }
  const [front, back] = [participantName('front'), participantName('back')]

  test('C9 are offered the new generation after the switch, and read their state and messages', () =>
    withProcesses({ onRestore: 'restoreFailed' }, async (bench, processes) => {
      await bench.operations.take(request, quiet())
      const restored = await bench.operations.restore(restore, quiet())
      expect(restored.generation).toBe(2)
      const outcome = restored.participants.find(({ name }) => name === 'back')
      expect(outcome).toMatchObject({ outcome: 'waiting', notes: ['its hook threw'] })
      const [offer] = processes.offers
      if (offer === undefined) throw new Error('no offer')
      expect(offer).toMatchObject({ generation: 2, restore: restored.restore })
      const { restores } = bench.operations
      expect(await restores.contents(offer.restore, back)).toEqual({ parts: ['ledger'], channels: [channel] })
      expect(await restores.contents(offer.restore, front)).toEqual({ parts: ['ledger'], channels: [] })
      expect(await read(await restores.readState(offer.restore, back, 'ledger'))).toBe('state of back')
      const lines = (await read(await restores.readChannel(offer.restore, back, channel))).trim().split('\n')
      expect(lines.map((line) => JSON.parse(line).payload)).toEqual(['1€', '2€', '3€'])
      await expect(restores.readState(offer.restore, back, '../ledger')).rejects.toMatchObject({ code: 'part_absent' })
      const wrong = restores.readChannel(offer.restore, front, channel)
      await expect(wrong).rejects.toMatchObject({ code: 'channel_absent' })
      await expect(restores.contents('other', back)).rejects.toMatchObject({ code: 'restore_unknown' })
      await expect(bench.operations.take(request, quiet())).rejects.toMatchObject({ code: 'restore_pending' })
    }))

  test('are restored before the operation answers, when they answer', () =>
    withProcesses({}, async (bench, processes) => {
      await bench.operations.take(request, quiet())
      const { context, events } = recording()
      const restored = await bench.operations.restore(restore, context)
      expect(restored.participants.map(({ outcome }) => outcome)).toEqual(Array(4).fill('restored'))
      expect(events).toContainEqual(
        expect.objectContaining({ participant: 'accounts', text: expect.stringContaining('"front" is running') }),
      )
      expect(await bench.catalog.pendingRestores('bank')).toEqual([])
      const next = await bench.operations.take(request, quiet())
      expect(next.generation).toBe(2)
      expect(processes.offers).toHaveLength(2)
    }))

  test('a restore of one process names the broken links; a restore of a store alone keeps the generation', () =>
    withProcesses({}, async (bench) => {
      await bench.operations.take(request, quiet())
      const store = await bench.operations.restore({ ...restore, participants: ['accounts'] }, quiet())
      expect(store.generation).toBe(1)
      expect(store.damage).toContainEqual(
        expect.stringMatching(/^broken link: front relies on what it wrote to accounts/),
      )
      const one = await bench.operations.restore({ ...restore, participants: ['front'] }, quiet())
      expect(one.generation).toBe(2)
      expect(one.damage).toContainEqual(expect.stringMatching(/^orphan state: back keeps what it received from front/))
      expect(one.damage).toContainEqual(expect.stringMatching(/^orphan state: accounts keeps what front wrote/))
      expect(one.damage).toContainEqual(expect.stringMatching(/^broken link: back is still of the generation before/))
    }))
})

describe('uploads', () => {
  test('are refused for a cut that is not open, and lines that are no messages are named', async () => {
    const bench = await startSystem()
    try {
      const { captures } = bench.operations
      const back = participantName('back')
      const cut = 'none' as Parameters<typeof captures.finish>[0]
      await expect(captures.putState(cut, back, 'a', bytes('x'))).rejects.toMatchObject({ code: 'cut_unknown' })
      await expect(captures.finish(cut, back)).rejects.toMatchObject({ code: 'cut_unknown' })
      const save = await (await bench.repository()).startSave()
      const uploads = captures.openCut(cut, { save, signal: AbortSignal.timeout(10_000), processes: [back] })
      const put = (text: string, to: ChannelId = channel) => captures.putChannel(cut, back, to, bytes(text))
      const message = {
        message: 'm',
        session,
        seq: 1,
        epoch: 0,
        kind: 'message',
        meta: {},
        encoding: 'utf8',
        payload: '',
      }
      const line = JSON.stringify(message)
      await expect(put(`${line}\n${line}\n`)).rejects.toMatchObject({ code: 'recorded_message_invalid' })
      await expect(put(`${line}\n{}\n`)).rejects.toThrow(/Line 2 /)
      await expect(put(line)).rejects.toThrow(/cut short/)
      await expect(put(`${line}\n`, channelId(back, participantName('front')))).rejects.toMatchObject({
        code: 'channel_invalid',
      })
      await expect(captures.putState(cut, back, '../x', bytes('x'))).rejects.toMatchObject({ code: 'name_invalid' })
      await put(`${line}\n`)
      expect([...(uploads.channels().get(channel) ?? [])]).toEqual([['s1#1', 'm']])
      expect(await captures.finish(cut, back)).toEqual(await captures.finish(cut, back))
      await expect(captures.putState(cut, back, 'b', bytes('x'))).rejects.toMatchObject({ code: 'capture_finished' })
      uploads.close()
      await expect(captures.finish(cut, back)).rejects.toMatchObject({ code: 'cut_unknown' })
      await save.discard()
    } finally {
      await bench.stop()
    }
  })
})
