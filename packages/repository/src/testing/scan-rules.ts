/** Owns rules of a scan as a save without options has them: for tests. */
import { readAccountNames } from '../account-names.ts'
import type { ScanRules } from '../save/scan-entry.ts'

export async function scanRules(fileBytesMax: number): Promise<ScanRules> {
  return {
    accounts: await readAccountNames(),
    parentTime: undefined,
    ignoreCtime: false,
    ignoreInode: false,
    ctimeTells: true,
    fileBytesMax,
    wantsFingerprints: false,
    withAtime: false,
    excludes: undefined,
    readsAll: false,
  }
}
