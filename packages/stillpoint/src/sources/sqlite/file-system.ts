/**
 * Which file systems a SQLite database must not be on: those of the network, whose locks and shared memory SQLite
 * cannot rely on (https://sqlite.org/wal.html: "WAL does not work over a network filesystem";
 * https://sqlite.org/howtocorrupt.html, 2.1).
 */
import { statfs } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'

/** Magic numbers of statfs(2) on Linux. */
const network: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x564c, 'NCP'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x73757245, 'Coda'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x01021997, '9P'],
  [0x786f4256, 'VirtualBox shared folder'],
])
const fuse = 0x65735546

export type FileSystemVerdict = { readonly use: 'yes' } | { readonly use: 'no' | 'doubtful'; readonly name: string }

export function judgeFileSystem(type: number): FileSystemVerdict {
  // statfs answers a signed long on some machines.
  const magic = type >>> 0
  const name = network.get(magic)
  if (name !== undefined) return { use: 'no', name }
  return magic === fuse ? { use: 'doubtful', name: 'FUSE' } : { use: 'yes' }
}

/**
 * @throws Failure `filesystem_unsupported` | `store_unreachable` (no such directory)
 */
export async function checkFileSystem(directory: string, note: (text: string) => void): Promise<void> {
  let type: number
  try {
    type = (await statfs(directory)).type
  } catch (cause) {
    throw new Failure({
      code: 'store_unreachable',
      message: `the directory of the SQLite database cannot be reached: ${directory}`,
      hint: 'Make the directory, or correct the path.',
      cause,
    })
  }
  const verdict = judgeFileSystem(type)
  if (verdict.use === 'no') {
    throw new Failure({
      code: 'filesystem_unsupported',
      message: `${directory} is on a network file system (${verdict.name})`,
      hint: 'SQLite cannot lock reliably there. Run Stillpoint on the machine that has the disk, and give that path.',
    })
  }
  if (verdict.use === 'doubtful')
    note(`${directory} is on ${verdict.name}: if it is remote, SQLite's locks may not hold`)
}
