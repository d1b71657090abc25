/** Orders and facts as lines that a person can read. */
import type { Fact, Order } from '../messages.ts'

export function describeOrder(order: Order): string {
  switch (order.type) {
    case 'prepare':
      return `prepare as ${order.role.kind === 'store' ? `${order.role.grade} store` : describeRole(order.role)}`
    case 'quiesce':
      return `quiesce ${order.stage} for ${order.leaseMs} ms`
    case 'drain':
      return `drain ${order.inbound.map(({ channel, sent }) => `${channel}: ${sent} sent`).join(', ') || 'nothing'}`
    case 'release':
      return `release, ${order.outcome}${order.reason === undefined ? '' : `: ${order.reason}`}`
    case 'mark':
    case 'ownedMarked':
    case 'resume':
    case 'capture':
      return order.type
  }
}

function describeRole(role: { gated: boolean; owns: readonly string[] }): string {
  return `process, ${role.gated ? 'gated' : 'flow'}${role.owns.length > 0 ? `, owns ${role.owns.join(', ')}` : ''}`
}

export function describeFact(fact: Fact): string {
  switch (fact.type) {
    case 'held':
      return `held: ${fact.stage}, hold ${fact.hold}`
    case 'reopened':
      return `reopened hold ${fact.hold}`
    case 'marked':
      return describeMark(fact.evidence)
    case 'resumed': {
      const { unbroken, detail } = fact.evidence
      return `resumed, ${unbroken === true ? 'unbroken' : `not unbroken: ${detail ?? 'nothing held'}`}`
    }
    case 'drained':
      return `drained ${fact.inbound.map(describeDrained).join(', ') || 'nothing'}`
    case 'captured':
      return `captured ${fact.evidence.tree}`
    case 'failed':
      return `failed during ${fact.during}: ${fact.failure.code}`
    case 'ready':
    case 'entering':
    case 'captureProgressed':
    case 'released':
      return fact.type
  }
}

function describeMark(mark: Extract<Fact, { type: 'marked' }>['evidence']): string {
  if (mark.kind === 'store') return `marked, ${mark.grade}`
  const sent = mark.sent.map((one) => `${one.channel} sent ${one.sent}`)
  const received = mark.received.map(({ channel, received: { upTo, beyond } }) => {
    return `${channel} received ${upTo}${beyond.length > 0 ? ` and ${beyond.join(', ')}` : ''}`
  })
  const open = mark.openHandlers.map(
    ({ startedBy, cutOffBy }) => `open handler of ${startedBy}, cut off by ${cutOffBy}`,
  )
  return `marked in epoch ${mark.epochEntered} by ${mark.enteredBy}: ${[...sent, ...received, ...open].join('; ')}`
}

function describeDrained(drained: Extract<Fact, { type: 'drained' }>['inbound'][number]): string {
  const { channel, recorded, missing, endedBy } = drained
  const lost = missing.length > 0 ? `, missing ${missing.join(', ')}` : ''
  return `${channel}: ${recorded.length} in flight${lost} (${endedBy})`
}
