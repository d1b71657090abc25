/**
 * The world, as the code may see it. Time and chance are injected, so that the same code runs in production,
 * under the simulator and in tests. `Random` decides, `Entropy` encrypts: two types, so that a simulated generator
 * can never reach a nonce.
 */
export interface Clock {
  /** Milliseconds since an arbitrary moment of this process; never goes back. For leases, deadlines, durations. */
  monotonicMs(): number
  /** Milliseconds since 1970, UTC. For people to read; nothing is decided by it. */
  wallMs(): number
  /**
   * Calls `wake` once after `delayMs`, unless the returned function is called first. With `keepsAlive: false` a process
   * that has nothing else to wait for ends without it. Default: true.
   */
  after(delayMs: number, wake: () => void, options?: { readonly keepsAlive?: boolean }): () => void
}

export interface Random {
  /** An integer from 0 to 2^32 − 1. */
  uint32(): number
}

export interface Entropy {
  /** Fills with cryptographically secure random bytes. */
  fill(target: Uint8Array): void
}
