/** A process that holds the database `shop`, says so, and never lets go: for tests that kill or freeze it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { postgresOptions, postgresSource } from './postgres.ts'
import { never, newCut, realClock } from './workbench.ts'

const [port = '', password = '', leaseMs = ''] = process.argv.slice(2)
const directory = await mkdtemp(join(tmpdir(), 'stillpoint-holder-'))
await writeFile(join(directory, 'password'), password, { mode: 0o600 })
const options = postgresOptions.parse({
  url: `postgres://postgres@127.0.0.1:${port}/shop`,
  passwordFile: 'password',
})
const note = (text: string) => console.error(text)
const env = { clock: realClock, baseDir: directory, scratchDir: directory, note }
const session = await postgresSource.open(options, env, never)
await rm(directory, { recursive: true })
await session.quiesce(newCut(), Number(leaseMs), never)
console.log('held')
setInterval(() => undefined, 1000)
