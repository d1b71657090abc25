import { makePlan } from '@stillpoint/core'
import type { CutId } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { SnapshotDetail } from '../coordinator/operations.ts'
import { detailLines, diffLines, listLines, restoreLines, verifyLines } from './render-snapshot.ts'

const plain = { width: undefined, tone: (text: string) => text }
const narrow = { ...plain, width: 60 }
const id = '1a2b3c4d'.repeat(8)

const plan = makePlan({
  system: 'shop',
  cut: 'c1' as CutId,
  epoch: 4,
  generation: 1,
  fencing: 1,
  stores: [{ name: 'orders-db', source: 'postgres', writers: 'unknown' }],
  processes: [],
})

const snapshot: SnapshotDetail = {
  id,
  system: 'shop',
  cut: 'c1',
  epoch: 4,
  generation: 1,
  time: '2026-11-21T07:39:25.120Z',
  verdict: 'crash-consistent',
  verdictReasons: ['orders: 1 handler was still running at the mark, and its message is delivered again at a restore'],
  participants: 2,
  bytes: 1_610_612_736,
  inFlight: 1,
  pauseMs: 12.3,
  participantDetails: [
    {
      name: 'orders-db',
      kind: 'store',
      source: 'postgres',
      grade: 'quiesced',
      tree: id,
      bytes: 1_610_612_000,
      files: 3,
      heldMs: 12.3,
      position: { lsn: '0/16B3748', xid: 42 },
      caveats: [],
      notes: ['the table "log" has no primary key'],
    },
    {
      name: 'orders',
      kind: 'process',
      source: 'sdk',
      grade: 'flow',
      tree: id,
      bytes: 736,
      files: 1,
      heldMs: null,
      position: {},
      caveats: ['a caveat\u001b[2J'],
      notes: [],
    },
  ],
  channels: [{ channel: 'orders→payments', sent: 17, received: 16, inFlight: 1, missing: 0 }],
  certificate: {
    version: 1,
    plan,
    planDigest: id,
    processes: {},
    stores: {},
    steps: [],
    trees: {},
    channelTrees: {},
    pauseMs: 12.3,
  },
}

describe('a snapshot', () => {
  test('in full', () => {
    expect(detailLines(snapshot, plain).join('\n')).toBe(`Snapshot ${id}
  verdict    crash-consistent
             - orders: 1 handler was still running at the mark, and its message is delivered again at a restore
  system     shop
  time       2026-11-21 07:39:25 UTC
  cut        c1, epoch 4, generation 1
  size       1.5 GiB
  pause      12 ms
  in flight  1 message

  PARTICIPANT  SOURCE    GRADE      HELD     SIZE  FILES  POSITION
  orders-db    postgres  quiesced  12 ms  1.5 GiB      3  lsn 0/16B3748, xid 42
    - the table "log" has no primary key
  orders       sdk       flow          -    736 B      1
    - caveat: a caveat�[2J

  CHANNEL          SENT  RECEIVED  IN FLIGHT  MISSING
  orders→payments    17        16          1        0`)
  })

  test('on a narrow terminal', () => {
    const lines = detailLines(snapshot, narrow)
    expect(lines.slice(2, 5)).toEqual([
      '             - orders: 1 handler was still running at the',
      '               mark, and its message is delivered again at a',
      '               restore',
    ])
    for (const line of lines.slice(1, 11)) expect([...line].length).toBeLessThanOrEqual(60)
  })

  test('in a list', () => {
    expect(listLines([snapshot], plain)).toEqual([
      'ID        TIME                     VERDICT           PARTICIPANTS     SIZE  IN FLIGHT  PAUSE',
      '1a2b3c4d  2026-11-21 07:39:25 UTC  crash-consistent             2  1.5 GiB          1  12 ms',
    ])
  })
})

test('a verification that failed', () => {
  const checks = [
    { name: 'certificate', passed: true, detail: 'the recorded verdict is the recomputed one' },
    { name: 'data', passed: false, detail: 'pack 12ab…: bytes differ' },
  ]
  expect(verifyLines({ id, passed: false, verdict: 'consistent', checks, bytesRead: 2048 }, plain)).toEqual([
    `Snapshot ${id}`,
    '  ok      certificate  the recorded verdict is the recomputed one',
    '  FAILED  data         pack 12ab…: bytes differ',
    'DAMAGED: the recomputed verdict is consistent; 2.0 KiB read',
  ])
})

test('a difference', () => {
  const entries = [{ path: 'files/a\u001b.txt', change: 'added', bytesBefore: 0, bytesAfter: 12 }] as const
  const participants = [
    { name: 'uploads', change: 'changed', bytesBefore: 1024, bytesAfter: 2048, entries },
    { name: 'redis', change: 'same', bytesBefore: 5, bytesAfter: 5, entries: [] },
  ] as const
  expect(diffLines({ from: id, to: 'b'.repeat(64), participants }, plain)).toEqual([
    '1a2b3c4d → bbbbbbbb',
    '  ~ uploads  changed  1.0 KiB → 2.0 KiB',
    '    + files/a�.txt  0 B → 12 B',
    '  = redis  same  5 B',
  ])
})

test('a restore names what waits and what it breaks', () => {
  const checks = [{ name: 'rows', passed: true, detail: '17 of 17' }]
  const participants = [
    { name: 'orders-db', outcome: 'restored', bytes: 1024, checks, notes: ['roles were left as they are'] },
    { name: 'orders', outcome: 'waiting', bytes: 0, checks: [], notes: [] },
  ] as const
  const damage = ['broken link: orders → payments']
  expect(restoreLines({ id, restore: 'r1', generation: 2, participants, damage }, plain)).toEqual([
    'Restored snapshot 1a2b3c4d as generation 2',
    '  orders-db  restored  1.0 KiB',
    '    ok      rows  17 of 17',
    '    - roles were left as they are',
    '  orders  waiting  it is restored when it joins',
    '',
    'What this restore breaks:',
    '  - broken link: orders → payments',
  ])
})
