/** The document of a snapshot: field by field as restic has it, exact, and refused where it cannot be meant. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DamageError } from './damage.ts'
import { sha256, snapshotId, treeId } from './ids.ts'
import { jsonText, parseJson } from './json.ts'
import { decodeSnapshot, encodeSnapshot, type SnapshotRecord, snapshotFields } from './snapshot.ts'
import { noTime, type SnapshotSummary, summaryFields, unknownSummary } from './snapshot-summary.ts'

const tree = treeId(sha256(Buffer.from('tree')))
const id = snapshotId(sha256(Buffer.from('snapshot')))
const bare = {
  time: 1_700_000_000_123_456_789n,
  tree,
  paths: ['/a'],
  hostname: 'h',
  username: 'u',
  uid: 1,
  gid: 2,
  excludes: ['*.x'],
  tags: ['t'],
}

const counts = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const times = fc.bigInt({ min: -62_135_596_800_000_000_000n, max: 253_402_300_799_000_000_000n })
const summaries: fc.Arbitrary<SnapshotSummary> = fc.record({
  backupStart: times,
  backupEnd: times,
  filesNew: counts,
  filesChanged: counts,
  filesUnmodified: counts,
  dirsNew: counts,
  dirsChanged: counts,
  dirsUnmodified: counts,
  dataBlobs: counts,
  treeBlobs: counts,
  dataAdded: counts,
  dataAddedPacked: counts,
  totalFilesProcessed: counts,
  totalBytesProcessed: counts,
})

/** As restic 0.18 has written it. */
const ofRestic =
  '{"time":"2026-11-21T20:38:32.580398358+01:00","tree":"fbf0a6c74254affad3db17b5b782e629dcd10e0bef8b06aa79f5931fc6edef70",' +
  '"paths":["/tmp/src"],"hostname":"vm","username":"root","program_version":"restic 0.18.0","summary":{' +
  '"backup_start":"2026-11-21T20:38:32.580398358+01:00","backup_end":"2026-11-21T20:38:33.283814146+01:00","files_new":2,' +
  '"files_changed":0,"files_unmodified":0,"dirs_new":2,"dirs_changed":0,"dirs_unmodified":0,"data_blobs":2,"tree_blobs":3,' +
  '"data_added":21400,"data_added_packed":21121,"total_files_processed":2,"total_bytes_processed":20006}}'

describe('a summary', () => {
  test('survives to the last digit and the nanosecond', () => {
    fc.assert(
      fc.property(summaries, (summary) => {
        const snapshot = { ...bare, summary }
        expect(decodeSnapshot(encodeSnapshot(snapshot))).toEqual(snapshot)
      }),
    )
  })

  test('of restic is read, in its order and with its names', () => {
    const { summary } = decodeSnapshot(ofRestic)
    expect(summary).toEqual({
      backupStart: 1_795_289_912_580_398_358n,
      backupEnd: 1_795_289_913_283_814_146n,
      filesNew: 2n,
      filesChanged: 0n,
      filesUnmodified: 0n,
      dirsNew: 2n,
      dirsChanged: 0n,
      dirsUnmodified: 0n,
      dataBlobs: 2n,
      treeBlobs: 3n,
      dataAdded: 21_400n,
      dataAddedPacked: 21_121n,
      totalFilesProcessed: 2n,
      totalBytesProcessed: 20_006n,
    })
    const theirs = Object(JSON.parse(ofRestic))
    expect(Object.keys(theirs['summary'])).toEqual(Object.keys(summaryFields(unknownSummary)))
    expect(Object.keys(theirs)).toEqual(snapshotFields.filter((name) => name in theirs))
    const all: SnapshotRecord = { ...bare, parent: id, original: id, programVersion: 'p', summary: unknownSummary }
    expect(Object.keys(JSON.parse(encodeSnapshot(all)))).toEqual(snapshotFields)
  })

  test('that lacks fields has 0 in them, and null is none', () => {
    const withSummary = (summary: string) =>
      decodeSnapshot(`${encodeSnapshot(bare).slice(0, -1)},"summary":${summary}}`)
    expect(withSummary('{}').summary).toEqual(unknownSummary)
    expect(withSummary('{"files_new":3,"label":"of a later one"}').summary).toEqual({ ...unknownSummary, filesNew: 3n })
    expect(withSummary('null')).toEqual(bare)
    expect(decodeSnapshot(encodeSnapshot({ ...bare, summary: unknownSummary })).summary?.backupStart).toBe(noTime)
  })

  const hostile = ['-1', '1.5', '1e300', '18446744073709551616', '"1"', 'true', '{}', '[]', 'null']
  const fieldNames = Object.entries(summaryFields(unknownSummary))
  test.each(fieldNames)('is damaged with a %s that cannot be', (name, value) => {
    const wrong = typeof value === 'bigint' ? hostile : ['1', '""', '"yesterday"', '"2026-13-01T00:00:00Z"', '{}']
    for (const bad of wrong) {
      const json = `${encodeSnapshot(bare).slice(0, -1)},"summary":{"${name}":${bad}}}`
      expect(() => decodeSnapshot(json), `${name} ${bad}`).toThrow(DamageError)
    }
  })

  test.each(['3', '"none"', '[]', 'true'])('that is %s is damage', (bad) => {
    expect(() => decodeSnapshot(`${encodeSnapshot(bare).slice(0, -1)},"summary":${bad}}`)).toThrow(DamageError)
  })

  test('that nobody could read is not written', () => {
    for (const dataAdded of [-1n, 1n << 64n]) {
      expect(() => encodeSnapshot({ ...bare, summary: { ...unknownSummary, dataAdded } })).toThrow('out of range')
    }
  })
})

test('what was read as JSON is written as the same', () => {
  const text = '{"a":[18446744073709551615,-9007199254740993,0.5,null,true,"\\ud800\\n"],"__proto__":{"b":{}},"":""}'
  expect(jsonText(parseJson(text))).toBe(text)
})
