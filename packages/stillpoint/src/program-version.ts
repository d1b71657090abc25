/** Which version of the package this is. In this folder, since its place relative to package.json is that of what is built. */
import { readFileSync } from 'node:fs'

export function programVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  const isPackage = typeof parsed === 'object' && parsed !== null && 'version' in parsed
  return isPackage && typeof parsed.version === 'string' ? parsed.version : 'unknown'
}
