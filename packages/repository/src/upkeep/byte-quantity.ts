/** Owns sizes as restic's options take them: bytes, or with the suffixes k, m, g, t (powers of 1024). */
const powers: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3, t: 4 }

/** Undefined where the text is no size. */
export function parseBytes(text: string): number | undefined {
  const [, count, suffix = ''] = /^(\d{1,15})([bkmgt]?)$/i.exec(text) ?? []
  const power = powers[suffix.toLowerCase()]
  if (count === undefined || power === undefined) return undefined
  const bytes = Number(count) * 1024 ** power
  return Number.isSafeInteger(bytes) ? bytes : undefined
}
