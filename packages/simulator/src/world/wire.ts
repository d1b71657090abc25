/**
 * What the production shells send over a socket or store in a repository, as whoever reads it gets it: through the
 * production's own readers. What they refuse although a machine has said it is a finding.
 */
import { createHash } from 'node:crypto'
import {
  type Certificate,
  canonicalPlan,
  type Fact,
  type Order,
  type Plan,
  readFact,
  readOrder,
} from '@stillpoint/core'
import { describeFailure, type TreeId } from '@stillpoint/core/kernel'
import { parseCertificate } from '../../../stillpoint/src/coordinator/certificate-schema.ts'

export class Wire {
  readonly #findings: string[]
  /** What has been carried. */
  bytes = 0

  /** @param findings where it writes down what could not be read */
  constructor(findings: string[]) {
    this.#findings = findings
  }

  fact(fact: Fact): Fact {
    return this.#carry(fact, (value) => readFact(value, ''))
  }

  order(order: Order): Order {
    return this.#carry(order, (value) => readOrder(value, ''))
  }

  certificate(certificate: Certificate): Certificate {
    return this.#carry(certificate, (value) => parseCertificate(Buffer.from(JSON.stringify(value))))
  }

  #carry<T>(said: T, read: (value: unknown) => T): T {
    try {
      const text = JSON.stringify(said)
      this.bytes += text.length
      return read(JSON.parse(text))
    } catch (error) {
      this.#findings.push(`nobody can read ${JSON.stringify(said).slice(0, 400)}: ${describeFailure(error).message}`)
      return said
    }
  }
}

export function digestOfPlan(plan: Plan): string {
  return createHash('sha256').update(canonicalPlan(plan)).digest('hex')
}

/** Nothing is in it: the worlds keep what was captured themselves. */
export const treeOfNobody = '0'.repeat(64) as TreeId
