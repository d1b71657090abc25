/**
 * The verdict: a pure function of the certificate. Whoever has the snapshot can run it again.
 */
export type Verdict =
  | { readonly kind: 'consistent'; readonly reasons: readonly [] }
  /** As after a crash at one instant: what was lost or cut off is stated, one by one. */
  | { readonly kind: 'crash-consistent'; readonly reasons: readonly string[] }
  | { readonly kind: 'inconsistent'; readonly reasons: readonly string[] }
