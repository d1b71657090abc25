/**
 * What really happened in a world, in terms that no protocol knows: vector clocks (Fidge, Mattern 1988), messages with
 * the events that sent, received and lost them, and tokens. Worlds write it; checkers read it.
 */

/** Events that are known of each actor, by its index. Immutable. */
export type VectorClock = readonly number[]

/** One more event of this actor, which learns `learnt`. */
export function tick(clock: VectorClock, actor: number, learnt: VectorClock = clock): VectorClock {
  const next = clock.slice()
  if (learnt !== clock) {
    for (let index = 0; index < next.length; index += 1) {
      const theirs = learnt[index] ?? 0
      if (theirs > (next[index] ?? 0)) next[index] = theirs
    }
  }
  next[actor] = (clock[actor] ?? 0) + 1
  return next
}

/** An event in one actor's life. */
export interface Event {
  readonly actor: number
  readonly index: number
}

export interface Told {
  readonly id: string
  readonly amount: number
  readonly from: number
  readonly to: number
  readonly sent: Event
  /** More than one is wrong. */
  readonly received: Event[]
  /** The event in which it was lost with somebody's memory; `network`: nobody's. */
  lost: Event | 'network' | null
}

export interface MarkedState {
  readonly actor: number
  readonly clock: VectorClock
  readonly tokens: number
}

/** A cut, at the instant at which its snapshot began to exist. */
export interface ObservedCut {
  readonly cut: string
  readonly verdict: 'consistent' | 'crash-consistent' | 'inconsistent'
  readonly reasons: readonly string[]
  readonly marks: ReadonlyMap<string, MarkedState>
  /** Ids of the messages in the recorded channels, as often as they are there. */
  readonly recorded: readonly string[]
  readonly messages: readonly Told[]
  /** Tokens that there were when this world, or this generation of it, began. */
  readonly tokens: number
  /** Messages that the certificate shows to be missing: the snapshot has them as lost, whatever became of them. */
  readonly missing: ReadonlySet<string>
  /** Messages whose handlers the processes entered the epoch without. */
  readonly redelivered: ReadonlySet<string>
  /** Participants with handlers that were cut off, and with messages from outside that were let through. */
  readonly cutOff: ReadonlySet<string>
  /**
   * Stores, when a handler ran on after its gate had to close: what it wrote until its process marked is in the process's
   * mark, and perhaps not in the store's. Empty when there was none.
   */
  readonly overrun: ReadonlySet<string>
  /** Processes outside this cut's plan, which are outsiders to it (ADR 0008). */
  readonly strangers: ReadonlySet<number>
}
