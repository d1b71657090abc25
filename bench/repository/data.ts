/**
 * Owns the data that the benchmark saves: made from a seed, equal in every run, and of kinds that backups meet.
 * Does not own what is measured with it.
 */
import { createCipheriv, createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'

export interface DataSet {
  readonly name: string
  readonly what: string
  /** Writes it into an empty directory. Returns its bytes. */
  make(directory: string): Promise<number>
  /** Changes it as its application would between two backups. Undefined where nothing changes. */
  readonly change?: (directory: string) => Promise<void>
}

const mebibyte = 1 << 20

/** A stream of bytes that nothing compresses, from a seed: AES-CTR over zeros. */
function noise(seed: string): (bytes: number) => Buffer {
  const digest = createHash('sha512').update(seed).digest()
  const cipher = createCipheriv('aes-256-ctr', digest.subarray(0, 32), digest.subarray(32, 48))
  return (bytes) => cipher.update(Buffer.alloc(bytes))
}

async function writeBlocks(path: string, blocks: number, block: (index: number) => Buffer): Promise<number> {
  const handle = await open(path, 'w')
  try {
    let bytes = 0
    for (let index = 0; index < blocks; index += 1) bytes += (await handle.write(block(index))).bytesWritten
    return bytes
  } finally {
    await handle.close()
  }
}

function incompressible(megabytes: number): DataSet {
  return {
    name: 'incompressible',
    what: `${megabytes} MiB in files of 64 MiB that nothing compresses`,
    async make(directory) {
      const next = noise('incompressible')
      let bytes = 0
      for (let file = 0; file < megabytes / 64; file += 1) {
        bytes += await writeBlocks(join(directory, `film-${file}.mkv`), 64, () => next(mebibyte))
      }
      return bytes
    },
  }
}

const words = 'account amount balance booked carrier city closed country created currency customer deleted email'.split(
  ' ',
)

/** Rows as a dump of a database has them: keys that count up, names from a small vocabulary, numbers, times, hashes. */
function sqlBlock(next: (bytes: number) => Buffer, from: number): { readonly text: string; readonly rows: number } {
  const lines: string[] = []
  let length = 0
  const chance = next(64 << 10)
  for (let row = 0; length < mebibyte; row += 1) {
    const at = (row * 16) % (chance.length - 16)
    const word = (offset: number) => words[(chance[at + offset] ?? 0) % words.length] ?? ''
    const time = new Date(1_700_000_000_000 + (from + row) * 977).toISOString()
    const line =
      `INSERT INTO orders VALUES (${from + row}, '${word(0)} ${word(1)} ${word(2)}', ${chance.readUInt32LE(at) % 100_000}, ` +
      `'${time}', '${chance.subarray(at, at + 8).toString('hex')}', '${word(3)}@${word(4)}.example', NULL);\n`
    lines.push(line)
    length += line.length
  }
  return { text: lines.join(''), rows: lines.length }
}

function sqlText(megabytes: number): DataSet {
  return {
    name: 'sql-text',
    what: `${megabytes} MiB of SQL dumps in 4 files`,
    async make(directory) {
      const next = noise('sql')
      let row = 1
      let bytes = 0
      for (let file = 0; file < 4; file += 1) {
        bytes += await writeBlocks(join(directory, `dump-${file}.sql`), megabytes / 4, () => {
          const { text, rows } = sqlBlock(next, row)
          row += rows
          return Buffer.from(text)
        })
      }
      return bytes
    },
  }
}

interface FileSet {
  readonly count: number
  readonly bytesMin: number
  readonly bytesMax: number
  /** In each directory that has any. Default: 100. */
  readonly perFolder?: number
}

/** Half of each file is text that compresses. */
function files(name: string, { count, bytesMin, bytesMax, perFolder = 100 }: FileSet): DataSet {
  return {
    name,
    what: `${count} files of ${bytesMin} to ${bytesMax} bytes, ${perFolder} to a directory`,
    async make(directory) {
      const next = noise(name)
      let bytes = 0
      for (let folder = 0; folder < count / perFolder; folder += 1) {
        const parent = join(directory, ...placeOf(folder, perFolder < 100 ? 10 : 100))
        await mkdir(parent, { recursive: true })
        for (let file = 0; file < perFolder; file += 1) {
          const length = bytesMin + (next(4).readUInt32LE() % (bytesMax - bytesMin + 1))
          const random = next(Math.ceil(length / 2))
          const text = random
            .subarray(0, length - random.length)
            .toString('base64')
            .slice(0, length - random.length)
          writeFileSync(join(parent, `${file}.dat`), Buffer.concat([random, Buffer.from(text)]))
          bytes += length
        }
      }
      return bytes
    },
  }
}

/** Directories in directories, as many in each. */
function placeOf(folder: number, width: number): readonly string[] {
  const above = Math.floor(folder / width)
  return above < width ? [`${above}`, `${folder % width}`] : [...placeOf(above, width), `${folder % width}`]
}

export function tinyFiles(count: number): DataSet {
  return files('large-tree', { count, bytesMin: 64, bytesMax: 2048 })
}

const pageBytes = 8 << 10

/**
 * Pages like a database's: a header that counts, rows that compress, space that is free. The first one begins as that of
 * an SQLite database does, so that an engine that knows page-structured files can know this one.
 */
function page(next: (bytes: number) => Buffer, index: number): Buffer {
  const bytes = Buffer.alloc(pageBytes)
  if (index === 0) bytes.writeUInt16BE(pageBytes, bytes.write('SQLite format 3\0', 0, 'latin1'))
  else bytes.writeUInt32LE(index, 0)
  next(2048).copy(bytes, 64)
  bytes.write(`row ${index} `.repeat(200), 2200)
  return bytes
}

/** In a few clusters and in single pages, as updates of rows with a hot set are. */
function databasePages(megabytes: number): DataSet {
  const files = 2
  const pages = (megabytes * mebibyte) / pageBytes / files
  const path = (directory: string, file: number) => join(directory, `base.${file}.db`)
  return {
    name: 'database-pages',
    what: `${megabytes} MiB of pages of 8 KiB in ${files} files, of which 2 % change`,
    async make(directory) {
      const next = noise('pages')
      let bytes = 0
      for (let file = 0; file < files; file += 1) {
        bytes += await writeBlocks(path(directory, file), pages, (index) => page(next, index))
      }
      return bytes
    },
    async change(directory) {
      const next = noise('changed pages')
      for (let file = 0; file < files; file += 1) {
        const handle = await open(path(directory, file), 'r+')
        for (let changed = 0; changed < pages * 0.02; ) {
          const first = next(4).readUInt32LE() % pages
          // Half of the changes lie together, eight pages at a time.
          for (let offset = 0; offset < (changed % 2 === 0 ? 8 : 1) && first + offset < pages; offset += 1) {
            await handle.write(page(next, first + offset), 0, pageBytes, (first + offset) * pageBytes)
            changed += 1
          }
        }
        await handle.close()
      }
    },
  }
}

/** @param scale 1 is what docs/benchmarks.md records; 0.05 is for a look. */
export function dataSets(scale: number): readonly DataSet[] {
  const megabytes = (full: number) => Math.max(64, Math.round((full * scale) / 64) * 64)
  const count = (full: number) => Math.max(1000, Math.round((full * scale) / 1000) * 1000)
  return [
    incompressible(megabytes(1024)),
    sqlText(megabytes(512)),
    files('small-files', { count: count(20_000), bytesMin: 4 << 10, bytesMax: 28 << 10 }),
    tinyFiles(count(100_000)),
    files('source-tree', { count: count(30_000), bytesMin: 200, bytesMax: 8000, perFolder: 5 }),
    databasePages(megabytes(512)),
  ]
}

export async function makeData(set: DataSet, directory: string): Promise<number> {
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true })
  return set.make(directory)
}
