/**
 * One string per state, equal for equal states. Every object is written once, in terms of the numbers of the objects in
 * it (hash consing), so what two states share costs nothing: exact, without collisions, and quick.
 */

/** Numbers for the parts of one exploration's worlds. Objects must never change once they have been seen. */
export class Canon {
  readonly #numbers = new Map<string, number>()
  readonly #known = new WeakMap<object, number>()

  /** @param parts always as many, in the same order */
  keyOf(parts: readonly unknown[]): string {
    const codes: number[] = []
    for (const part of parts) {
      const number = typeof part === 'object' && part !== null ? this.#number(part) : this.#intern(String(part))
      codes.push(number & 0x7fff, number >>> 15)
    }
    return String.fromCharCode(...codes)
  }

  #number(part: object): number {
    const known = this.#known.get(part)
    if (known !== undefined) return known
    const number = this.#intern(this.#write(part))
    this.#known.set(part, number)
    return number
  }

  /** Maps and sets by their content: the order of insertion is no part of a state. */
  #write(part: object): string {
    if (Array.isArray(part)) return `[${part.map((one) => this.#text(one)).join(',')}]`
    if (part instanceof Map) return `m${[...part].map(([key, one]) => `${String(key)}:${this.#text(one)}`).sort()}`
    if (part instanceof Set) return `s${[...part].map(String).sort()}`
    let text = '{'
    for (const [key, value] of Object.entries(part)) text += `${key}:${this.#text(value)},`
    return text
  }

  #text(value: unknown): string {
    if (typeof value === 'object' && value !== null) return `#${this.#number(value)}`
    return typeof value === 'string' ? JSON.stringify(value) : String(value)
  }

  #intern(text: string): number {
    const known = this.#numbers.get(text)
    if (known !== undefined) return known
    this.#numbers.set(text, this.#numbers.size)
    return this.#numbers.size - 1
  }
}
