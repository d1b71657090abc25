/**
 * The bank by hand: `node examples/bank/bank.ts DIR` makes a bank in DIR (or finds one there), and runs its four
 * branches against the server that `stillpoint up` runs in DIR, until Ctrl-C. README.md has the whole session.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { bankTotal, branchNames, createBank, layOutBank } from 'stillpoint'
import { systemClock as clock, systemEntropy as entropy, systemRandom as random } from 'stillpoint/system-env'

const [argument] = process.argv.slice(2)
if (argument === undefined) {
  console.error('usage: node examples/bank/bank.ts DIR')
  process.exit(2)
}
const dir = resolve(argument)
const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort())

if (!existsSync(join(dir, 'stillpoint.yaml'))) {
  await layOutBank(dir, { clock, random, entropy, signal: stop.signal })
  console.log(`A bank is laid out in ${dir}.`)
}
console.log(`Its branches join when "stillpoint up --config ${join(dir, 'stillpoint.yaml')}" runs.`)
const bank = createBank({
  dir,
  server: await serverUrl(),
  tokenFile: join(dir, '.stillpoint', 'token'),
  clock,
  onComplaint: (text) => console.error(text),
})
try {
  await bank.start(stop.signal)
  bank.send(true)
  while (!stop.signal.aborted) {
    const reports = [...(await bank.reports(stop.signal)).values()]
    const total = reports.reduce((sum, report) => sum + report.total, 0)
    const sent = reports.reduce((sum, report) => sum + report.sent, 0)
    console.log(`${branchNames.length} branches, ${sent} transfers, ${total} cents of ${bankTotal} in the ledgers`)
    await pause(5_000, undefined, { signal: stop.signal })
  }
} catch (error) {
  if (!stop.signal.aborted) throw error
} finally {
  await bank.kill()
}

async function serverUrl(): Promise<string> {
  const path = join(dir, '.stillpoint', 'server.json')
  while (!existsSync(path)) await pause(500, undefined, { signal: stop.signal })
  const { url } = JSON.parse(readFileSync(path, 'utf8')) as { url: string }
  return url
}
