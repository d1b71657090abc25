/**
 * What the vault counts, as text for Prometheus (exposition format 0.0.4).
 *
 * Owns: names, labels, numbers. Labels are users of the file, folders, and statuses: their number is bounded.
 */
import type { Usage } from './usage.ts'

export interface VaultMetrics {
  readonly requests: Counter
  readonly received: Counter
  readonly sent: Counter
  readonly written: Counter
  readonly deleted: Counter
  readonly refusedLogins: Counter
  uploadsRunning: number
}

export interface Counter {
  add(labels: Readonly<Record<string, string>>, amount?: number): void
  lines(): readonly string[]
}

export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8'

export function createVaultMetrics(): VaultMetrics {
  return {
    requests: createCounter('stillpoint_vault_requests_total', 'Requests, by method and status.'),
    received: createCounter('stillpoint_vault_received_bytes_total', 'Bytes of objects received, by user and folder.'),
    sent: createCounter('stillpoint_vault_sent_bytes_total', 'Bytes of objects sent, by user and folder.'),
    written: createCounter('stillpoint_vault_objects_written_total', 'Objects stored, by user and folder.'),
    deleted: createCounter('stillpoint_vault_objects_deleted_total', 'Objects deleted, by user and folder.'),
    refusedLogins: createCounter(
      'stillpoint_vault_refused_logins_total',
      'Requests without a right password or token.',
    ),
    uploadsRunning: 0,
  }
}

function createCounter(name: string, help: string): Counter {
  const values = new Map<string, number>()
  return {
    add(labels, amount = 1) {
      const key = labelText(labels)
      values.set(key, (values.get(key) ?? 0) + amount)
    },
    lines: () => series({ name, help, type: 'counter' }, [...values]),
  }
}

interface Series {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge'
}

function series({ name, help, type }: Series, values: readonly (readonly [string, number])[]): readonly string[] {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...values.map(([labels, value]) => `${name}${labels} ${value}`),
  ]
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels)
  if (pairs.length === 0) return ''
  const escaped = (value: string) => value.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n')
  return `{${pairs.map(([key, value]) => `${key}="${escaped(value)}"`).join(',')}}`
}

export interface Gauges {
  readonly usage: Usage
  readonly diskFreeBytes: number
  readonly uptimeSeconds: number
}

export function metricsText(metrics: VaultMetrics, { usage, diskFreeBytes, uptimeSeconds }: Gauges): string {
  const users = [...usage.known()]
  const gauge = (name: string, help: string, values: readonly (readonly [string, number])[]) =>
    series({ name: `stillpoint_vault_${name}`, help, type: 'gauge' }, values)
  const { requests, received, sent, written, deleted, refusedLogins } = metrics
  const counters = [requests, received, sent, written, deleted, refusedLogins]
  const lines = [
    ...counters.flatMap((counter) => counter.lines()),
    ...gauge('uploads_running', 'Uploads under way.', [['', metrics.uploadsRunning]]),
    ...gauge('disk_free_bytes', 'Bytes free on the disk of the vault.', [['', diskFreeBytes]]),
    ...gauge('uptime_seconds', 'Seconds since the start.', [['', uptimeSeconds]]),
    ...gauge(
      'stored_bytes',
      'Bytes stored, of users who have a quota and have stored since the start.',
      users.map(([user, { bytes }]) => [labelText({ user }), bytes]),
    ),
    ...gauge(
      'quota_bytes',
      'Bytes that such a user may store.',
      users.flatMap(([user, { quotaBytes }]) => (quotaBytes === undefined ? [] : [[labelText({ user }), quotaBytes]])),
    ),
  ]
  return `${lines.join('\n')}\n`
}
