/** What a branch and the demo say to each other over the branch's IPC channel. */

export type BranchOrder =
  /** Where the other branches listen. The branch goes on with what it does. */
  | { readonly type: 'peers'; readonly urls: Readonly<Record<string, string>> }
  /** Begin to send money, or end it; what has arrived is booked either way. */
  | { readonly type: 'send'; readonly on: boolean }
  | { readonly type: 'report' }

export interface BranchEvent {
  /** Milliseconds since 1970. All branches run on one machine. */
  readonly atMs: number
  readonly kind: 'sent' | 'handled'
  readonly message: string
}

export type BranchNews =
  | { readonly type: 'listening'; readonly url: string }
  | { readonly type: 'joined' }
  | { readonly type: 'failed'; readonly message: string }
  /** Its state was marked, and what it did in the last moments before. */
  | { readonly type: 'marked'; readonly atMs: number; readonly before: readonly BranchEvent[] }
  /** What it did in the first moments after the mark. */
  | { readonly type: 'after'; readonly after: readonly BranchEvent[] }
  | { readonly type: 'report'; readonly sent: number; readonly booked: number; readonly total: number }

/** What a branch is started with: one argument, JSON. */
export interface BranchArguments {
  readonly name: string
  readonly ledger: string
  readonly server: string
  readonly tokenFile: string
}
