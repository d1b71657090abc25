/** A process that holds a server, says so, and never lets go: for tests that kill or freeze it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { redisOptions, redisSource } from './redis.ts'
import { never, newCut, realClock } from './workbench.ts'

const [port = '', password = '', leaseMs = ''] = process.argv.slice(2)
const directory = await mkdtemp(join(tmpdir(), 'stillpoint-holder-'))
await writeFile(join(directory, 'password'), password, { mode: 0o600 })
const options = redisOptions.parse({ url: `redis://127.0.0.1:${port}`, passwordFile: 'password' })
const note = (text: string) => console.error(text)
const session = await redisSource.open(
  options,
  { clock: realClock, baseDir: directory, scratchDir: directory, note },
  never,
)
await rm(directory, { recursive: true })
await session.quiesce(newCut(), Number(leaseMs), never)
console.log('held')
setInterval(() => undefined, 1000)
