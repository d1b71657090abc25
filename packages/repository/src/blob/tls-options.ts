/**
 * Owns what a client needs for TLS: whom it trusts, and by which certificate it is known itself. Files are PEM, and are
 * read once, when the store is opened.
 */
import { readFile } from 'node:fs/promises'
import { storageFailure } from './storage-failure.ts'

export interface TlsOptions {
  /** PEM file of the certificates to trust instead of the system's. */
  readonly caFile?: string
  /** PEM file with a certificate and its private key, for servers that ask for one. */
  readonly clientCertificateFile?: string
  /** Trusts any server: whoever is on the way can read the credentials. What is stored stays sealed. */
  readonly insecureTls?: boolean
}

export interface TlsSettings {
  readonly minVersion: 'TLSv1.2'
  readonly ca?: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
  readonly rejectUnauthorized?: false
}

/** For an `Agent` of `node:https`. @throws Failure `storage_failed`, naming the file */
export async function readTlsSettings({
  caFile,
  clientCertificateFile,
  insecureTls,
}: TlsOptions): Promise<TlsSettings> {
  const client =
    clientCertificateFile === undefined
      ? undefined
      : await readPem('the certificate of this client', clientCertificateFile)
  return {
    minVersion: 'TLSv1.2',
    ...(caFile === undefined ? {} : { ca: await readPem('the CA certificates', caFile) }),
    // Of one file each takes its part.
    ...(client === undefined ? {} : { cert: client, key: client }),
    ...(insecureTls === true ? { rejectUnauthorized: false } : {}),
  }
}

async function readPem(what: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw storageFailure(error, `reading ${what}`, path)
  }
}
