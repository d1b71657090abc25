/** Who handles the messages of which peer on WebSocket channels. */
import { Failure, type ParticipantName, participantName } from '@stillpoint/core/kernel'
import type { InboundMessage } from '../message.ts'

/** What it throws is reported through `onError`; the message counts as handled all the same, and is not sent again. */
export type MessageHandler = (message: InboundMessage) => void | Promise<void>

export interface Receiver {
  readonly handler: MessageHandler
  readonly transactional: boolean
}

export interface Receivers {
  add(peer: string, receiver: Receiver): void
  /** The peer's own handler, or the one for `*`. */
  of(peer: ParticipantName): Receiver | undefined
}

export function receivers(): Receivers {
  const byPeer = new Map<string, Receiver>()
  return {
    add(peer, receiver) {
      const key = peer === '*' ? peer : participantName(peer)
      if (byPeer.has(key)) {
        const message = `there is a handler for the messages of "${key}" already`
        throw new Failure({ code: 'options_invalid', message, hint: 'Register one handler per peer.' })
      }
      byPeer.set(key, receiver)
    },
    of: (peer) => byPeer.get(peer) ?? byPeer.get('*'),
  }
}
