/**
 * Owns reading a file of AWS credentials that the user has named. Without one, the SDK looks in the usual places: the
 * environment, ~/.aws with its profiles, the container, the machine. No secret is ever in an argument or a URL.
 */
import { Failure } from '@stillpoint/core/kernel'
import { readCredentialsText } from './rest-credentials.ts'

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

/**
 * Of a file as ~/.aws/credentials: sections of profiles, with `aws_access_key_id`, `aws_secret_access_key` and perhaps
 * `aws_session_token` ("Configuration and credential file settings", AWS CLI user guide).
 * @throws Failure `secret_…` of the file, `secret_empty` where the profile has no keys
 */
export async function readS3Credentials(path: string, profile: string): Promise<S3Credentials> {
  const settings = sectionOf(await readCredentialsText(path), profile)
  const [accessKeyId, secretAccessKey] = [settings.get('aws_access_key_id'), settings.get('aws_secret_access_key')]
  const sessionToken = settings.get('aws_session_token')
  if (!accessKeyId || !secretAccessKey) {
    throw new Failure({
      code: 'secret_empty',
      message: `the credentials file ${path} has no keys of the profile ${JSON.stringify(profile)}`,
      hint: `Write into it: [${profile}], aws_access_key_id = …, aws_secret_access_key = …, each in a line of its own.`,
    })
  }
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
}

function sectionOf(text: string, profile: string): ReadonlyMap<string, string> {
  const settings = new Map<string, string>()
  let isOurs = false
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    const [, section] = /^\[\s*(?:profile\s+)?([^\]]*?)\s*\]$/.exec(line) ?? []
    if (section !== undefined) isOurs = section === profile
    const at = line.indexOf('=')
    if (isOurs && section === undefined && at > 0)
      settings.set(line.slice(0, at).trim().toLowerCase(), line.slice(at + 1).trim())
  }
  return settings
}
