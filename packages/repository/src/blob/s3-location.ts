/**
 * Owns how the place of a repository on S3 is written: as restic writes it, `s3:https://HOST[:PORT]/BUCKET[/PREFIX]` or
 * `s3:HOST/BUCKET[/PREFIX]`. Does not own who may go there (s3-credentials.ts).
 */
import { Failure } from '@stillpoint/core/kernel'

export interface S3Location {
  /** `https://host:port`, without a slash at its end. */
  readonly endpoint: string
  /** What a host of Amazon's says of it; undefined for all others. `region` is undefined for the one without a region. */
  readonly amazon: { readonly region: string | undefined } | undefined
  readonly bucket: string
  /** Before the names of all objects: empty, or with a slash at its end. */
  readonly prefix: string
}

const form = 'Write it as s3:https://HOST/BUCKET/PREFIX; the prefix may be left out.'

/** @throws Failure `options_invalid`, which does not quote what could be a secret */
export function parseS3Location(text: string): S3Location {
  const rest = text.replace(/^s3:/, '')
  const isUrl = /^https?:\/\//i.test(rest)
  // As restic: without a scheme it is TLS, and what comes first is the host.
  const url = URL.parse(isUrl ? rest : `https://${rest.replace(/^\/\//, '')}`)
  if (url === null || url.hostname === '') throw invalid('is not a URL')
  if (url.username !== '' || url.password !== '') {
    const hint = 'Credentials come from the environment (AWS_ACCESS_KEY_ID …), from ~/.aws or from a file.'
    throw invalid(`at ${url.host} has a user or a password in it`, hint)
  }
  if (url.search !== '' || url.hash !== '') throw invalid('has a "?" or "#" in it')
  const [bucket = '', ...folders] = decodedPath(url)
    .split('/')
    .filter((part) => part !== '' && part !== '.')
  if (bucket === '') throw invalid(`at ${url.host} names no bucket`)
  // Signed and sent in paths and host names: nothing that either could read in another way.
  if (!/^[A-Za-z0-9][\w.-]{0,254}$/.test(bucket)) throw invalid('has a bucket whose name is not allowed')
  if (folders.some((part) => part === '..' || /\p{Cc}/u.test(part))) {
    throw invalid('has ".." or a control character in its prefix')
  }
  return {
    endpoint: `${url.protocol}//${url.host}`,
    amazon: amazonOf(url),
    bucket,
    prefix: folders.map((part) => `${part}/`).join(''),
  }
}

function decodedPath(url: URL): string {
  try {
    return decodeURIComponent(url.pathname)
  } catch {
    throw invalid('has a "%" in it that encodes nothing')
  }
}

function amazonOf({ protocol, host }: URL): S3Location['amazon'] {
  if (protocol !== 'https:') return undefined
  const match = /^s3(?:[.-]([a-z]{2,}(?:-[a-z]+)+-\d+))?\.amazonaws\.com$/.exec(host)
  return match === null ? undefined : { region: match[1] }
}

function invalid(what: string, hint = form): Failure {
  return new Failure({ code: 'options_invalid', message: `the location of the repository on S3 ${what}`, hint })
}
