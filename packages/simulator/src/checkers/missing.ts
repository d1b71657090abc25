/**
 * Which messages a certificate shows to be missing, by its own counts alone: sent before their sender's cut, neither
 * received at their receiver's nor recorded. Written anew and plainly: nothing of the production's verdict is used.
 */
import type { Certificate } from '@stillpoint/core'

/** Each as `channel session number`. */
export function* missingIn({ processes }: Certificate): Generator<string> {
  for (const { mark } of Object.values(processes)) {
    for (const { channel, session, sent } of mark.sent) {
      const [, receiver = ''] = (channel.split('#')[0] ?? '').split('→')
      const there = new Set<number>()
      let upTo = 0
      const evidence = processes[receiver]
      for (const one of evidence?.mark.received ?? []) {
        if (one.channel !== channel || one.session !== session) continue
        upTo = one.received.upTo
        for (const seq of one.received.beyond) there.add(seq)
      }
      for (const one of evidence?.drained ?? []) {
        if (one.channel === channel && one.session === session) for (const { seq } of one.recorded) there.add(seq)
      }
      for (let seq = upTo + 1; seq <= sent; seq += 1) if (!there.has(seq)) yield `${channel} ${session} ${seq}`
    }
  }
}
