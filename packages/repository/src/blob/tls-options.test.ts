/** Whom a client trusts, and by which certificate it is known: against a server that asks for one. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { describe, expect, onTestFinished, test } from 'vitest'
import { scratch } from '../testing/testbed.ts'
import { openRestStore } from './rest-store.ts'
import { openS3Store } from './s3-store.ts'

/** A certificate that signs itself, for `localhost`; its key is in the same file. */
async function certificate(directory: string, name: string): Promise<string> {
  const [key, cert] = [join(directory, `${name}-key.pem`), join(directory, `${name}-cert.pem`)]
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync('openssl', ['req', '-x509', ...kind, '-keyout', key, '-out', cert, '-days', '1', ...subject], {
    stdio: 'ignore',
  })
  const both = join(directory, `${name}.pem`)
  await writeFile(both, Buffer.concat([await readFile(cert), await readFile(key)]))
  return both
}

/** Answers every request with 404, and remembers who asked. */
async function startServer(directory: string) {
  const serverFile = await certificate(directory, 'server')
  const clientFile = await certificate(directory, 'client')
  const asked: string[] = []
  const [pem, ca] = [await readFile(serverFile), await readFile(clientFile)]
  const server = createServer(
    { key: pem, cert: pem, ca, requestCert: true, rejectUnauthorized: false },
    (request, answer) => {
      const socket = request.socket as TLSSocket
      asked.push(socket.authorized ? String(socket.getPeerCertificate().subject.CN) : 'nobody')
      if (request.headers.authorization !== undefined) asked.push(request.headers.authorization)
      answer.writeHead(404).end()
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close().closeAllConnections())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('it listens on a port')
  return { port: address.port, asked, serverFile, clientFile }
}

const config = { kind: 'config', name: 'config' } as const

describe('a client of a server with TLS', () => {
  test('shows its certificate, trusts a CA file, and nobody else', async () => {
    const { port, asked, serverFile, clientFile } = await startServer(await scratch())
    const url = `rest:https://localhost:${port}/`
    const trusted = { url, caFile: serverFile }
    expect(await (await openRestStore({ ...trusted, clientCertificateFile: clientFile })).size(config)).toBeUndefined()
    expect(await (await openRestStore(trusted)).size(config)).toBeUndefined()
    expect(asked).toEqual(['client', 'nobody'])
    await expect((await openRestStore({ url })).size(config)).rejects.toThrow('certificate is not trusted')
    expect(await (await openRestStore({ url, insecureTls: true })).size(config)).toBeUndefined()
    expect(asked).toEqual(['client', 'nobody', 'nobody'])
  })

  test('is told its name and password in memory', async () => {
    const { port, asked, serverFile } = await startServer(await scratch())
    const server = { url: `rest:https://localhost:${port}/`, caFile: serverFile }
    const credentials = { name: 'alice', password: 'secret: ü' }
    await (await openRestStore({ ...server, credentials })).size(config)
    expect(asked[1]).toBe(`Basic ${Buffer.from('alice:secret: ü').toString('base64')}`)
    for (const wrong of [
      { name: 'a:b', password: 'x' },
      { name: 'a', password: 'x\r\ny: z' },
    ]) {
      const opening = openRestStore({ ...server, credentials: wrong })
      await expect(opening).rejects.toMatchObject({ code: 'secret_not_text' })
    }
  })

  test('does the same for S3', async () => {
    const directory = await scratch()
    const { port, asked, serverFile, clientFile } = await startServer(directory)
    const credentialsFile = join(directory, 'credentials')
    await writeFile(credentialsFile, '[default]\naws_access_key_id = a\naws_secret_access_key = b\n', { mode: 0o600 })
    const place = { location: `s3:https://localhost:${port}/bucket`, credentialsFile }
    const known = await openS3Store({ ...place, caFile: serverFile, clientCertificateFile: clientFile })
    expect(await known.size(config)).toBeUndefined()
    expect(asked[0]).toBe('client')
    await expect((await openS3Store(place)).size(config)).rejects.toMatchObject({ code: 'storage_failed' })
    expect(await (await openS3Store({ ...place, insecureTls: true })).size(config)).toBeUndefined()
  })

  test('names the file that cannot be read', async () => {
    const opening = openRestStore({ url: 'rest:https://localhost/', clientCertificateFile: '/nowhere/client.pem' })
    await expect(opening).rejects.toThrow('reading the certificate of this client /nowhere/client.pem')
  })
})
