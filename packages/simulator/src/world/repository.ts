/**
 * What is durable in a world: the catalog with the coordinator's records, and the repository with what was captured and
 * sealed. Slow, failing and lying on demand. Lying: it answers an error although it has written.
 */
import type { Certificate, CutRecord, Plan } from '@stillpoint/core'
import type { MarkedState } from '../checkers/truth.ts'

/** One participant's part of a snapshot, as it was uploaded. */
export interface Upload {
  readonly mark: MarkedState
  /** Ids of recorded messages. */
  readonly recorded: readonly string[]
}

export interface Sealed {
  readonly cut: string
  readonly certificate: Certificate
  readonly uploads: ReadonlyMap<string, Upload>
}

export interface OpenCut {
  readonly plan: Plan
  readonly records: CutRecord[]
}

export class StorageError extends Error {
  override readonly name = 'StorageError'
}

export class Durable {
  /** The greatest token that was handed out: what has a smaller one may write nothing any more. */
  fencing = 0
  epoch = 0
  generation = 1
  readonly cuts = new Map<string, OpenCut>()
  /** Those of them that have no outcome yet. */
  readonly #open = new Set<OpenCut>()
  readonly snapshots: Sealed[] = []
  readonly #sealed = new Map<string, Sealed>()
  readonly uploads = new Map<string, Upload>()
  storage: 'well' | 'slow' | 'failing' | 'lying' = 'well'

  record(fencing: number, plan: Plan, records: readonly CutRecord[]): void {
    if (fencing < this.fencing) throw new StorageError(`the lease with token ${fencing} is over`)
    const known = this.cuts.get(plan.cut)
    const cut = known ?? { plan, records: [] }
    if (known === undefined) {
      this.cuts.set(plan.cut, cut)
      this.#open.add(cut)
    }
    cut.records.push(...records)
    if (records.some(({ type }) => type === 'ended')) this.#open.delete(cut)
  }

  /** The first cut that has no outcome yet. */
  open(): OpenCut | undefined {
    for (const cut of this.#open) return cut
    return undefined
  }

  uploadKey(cut: string, participant: string): string {
    return `${cut} ${participant}`
  }

  upload(cut: string, participant: string, upload: Upload): void {
    if (this.storage === 'failing') throw new StorageError('the repository cannot be written')
    this.uploads.set(this.uploadKey(cut, participant), upload)
  }

  /** The same cut again is the same snapshot. @returns what is new in the repository, or null */
  seal(certificate: Certificate): Sealed | null {
    if (this.storage === 'failing') throw new StorageError('the repository cannot be written')
    const { cut, participants } = certificate.plan
    if (this.find(cut) !== undefined) return null
    const uploads = new Map<string, Upload>()
    for (const { name } of participants) {
      const upload = this.uploads.get(this.uploadKey(cut, name))
      if (upload === undefined) throw new StorageError(`nothing of ${name} was uploaded for ${cut}`)
      uploads.set(name, upload)
    }
    const sealed = { cut, certificate, uploads }
    this.snapshots.push(sealed)
    this.#sealed.set(cut, sealed)
    return sealed
  }

  find(cut: string): Sealed | undefined {
    return this.#sealed.get(cut)
  }
}
