/** Quantities as people read them. Pure: the same number, the same text, whatever the locale. */

const byteUnits = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `0 B`, `812 B`, `1.5 KiB`, `14.0 GiB`. */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} B`
  let amount = bytes / 1024
  let unit = 0
  // 1023.95 would be written 1024.0.
  while (amount >= 1023.95 && unit < byteUnits.length - 1) {
    amount /= 1024
    unit += 1
  }
  return `${amount.toFixed(1)} ${byteUnits[unit]}`
}

/** `0.4 ms`, `12 ms`, `1.5 s`, `2 min 5 s`, `3 h 4 min`. */
export function elapsedText(durationMs: number): string {
  if (durationMs < 9.95) return `${durationMs.toFixed(1).replace(/\.0$/, '')} ms`
  if (durationMs < 999.5) return `${Math.round(durationMs)} ms`
  if (durationMs < 59_950) return `${(durationMs / 1000).toFixed(1)} s`
  const seconds = Math.round(durationMs / 1000)
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  const minutes = Math.round(durationMs / 60_000)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A countdown: `0:07`, `12:30`, `1:02:03`. */
export function countdownText(durationMs: number): string {
  const seconds = Math.max(0, Math.ceil(durationMs / 1000))
  const two = (value: number) => String(value).padStart(2, '0')
  const hours = Math.floor(seconds / 3_600)
  const minutes = Math.floor((seconds % 3_600) / 60)
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`
}

/** `2026-11-21 07:39:25 UTC`; what is no time is shown as it is. */
export function timeText(iso: string): string {
  const ms = Date.parse(iso)
  if (Number.isNaN(ms)) return plainText(iso)
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/** `1 message`, `2 messages`. */
export function countText(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** How much of an id is shown in tables. */
export function shortId(id: string): string {
  return id.slice(0, 8)
}

/** Text from elsewhere without control characters: what a store or a file name says must not steer the terminal. */
export function plainText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, '�')
}
