/**
 * Immutable collections for states with thousands of participants: a change copies one chunk and the list of chunks,
 * not everything. For n changes to n entries that is n·√n at worst, with a small factor, instead of n².
 *
 * Plain fields, so that equal contents are equal when they are compared field by field.
 */
import { assert } from './assert.ts'

const chunkLength = 64

/** A list that grows at its end. */
export class ChunkedList<T> implements Iterable<T> {
  readonly chunks: readonly (readonly T[])[]
  readonly length: number

  private constructor(chunks: readonly (readonly T[])[], length: number) {
    this.chunks = chunks
    this.length = length
  }

  static of<T>(items: readonly T[]): ChunkedList<T> {
    const chunks: (readonly T[])[] = []
    for (let from = 0; from < items.length; from += chunkLength) chunks.push(items.slice(from, from + chunkLength))
    return new ChunkedList(chunks, items.length)
  }

  at(index: number): T {
    assert(Number.isInteger(index) && index >= 0 && index < this.length, `no entry ${index} of ${this.length}`)
    return this.#chunk(index)[index % chunkLength] as T
  }

  with(index: number, item: T): ChunkedList<T> {
    assert(Number.isInteger(index) && index >= 0 && index < this.length, `no entry ${index} of ${this.length}`)
    const chunk = this.#chunk(index).with(index % chunkLength, item)
    return new ChunkedList(this.chunks.with(Math.floor(index / chunkLength), chunk), this.length)
  }

  plus(item: T): ChunkedList<T> {
    const { chunks, length } = this
    if (length % chunkLength === 0) return new ChunkedList([...chunks, [item]], length + 1)
    return new ChunkedList(chunks.with(-1, [...this.#chunk(length - 1), item]), length + 1)
  }

  *[Symbol.iterator](): Iterator<T> {
    for (const chunk of this.chunks) yield* chunk
  }

  #chunk(index: number): readonly T[] {
    return this.chunks[Math.floor(index / chunkLength)] ?? []
  }
}

/** A map whose keys never change, in their order. */
export class ChunkedMap<K, V> implements Iterable<readonly [K, V]> {
  readonly #places: ReadonlyMap<K, number>
  readonly entries: ChunkedList<readonly [K, V]>

  private constructor(places: ReadonlyMap<K, number>, entries: ChunkedList<readonly [K, V]>) {
    this.#places = places
    this.entries = entries
  }

  static of<K, V>(entries: readonly (readonly [K, V])[]): ChunkedMap<K, V> {
    const places = new Map(entries.map(([key], index) => [key, index]))
    assert(places.size === entries.length, 'a key is there twice')
    return new ChunkedMap(places, ChunkedList.of(entries))
  }

  get size(): number {
    return this.entries.length
  }

  has(key: K): boolean {
    return this.#places.has(key)
  }

  /** Where the key is in the order of the keys. */
  placeOf(key: K): number | undefined {
    return this.#places.get(key)
  }

  get(key: K): V | undefined {
    const place = this.#places.get(key)
    return place === undefined ? undefined : this.entries.at(place)[1]
  }

  with(key: K, value: V): ChunkedMap<K, V> {
    const place = this.#places.get(key)
    assert(place !== undefined, `${String(key)} is not a key`)
    return new ChunkedMap(this.#places, this.entries.with(place, [key, value]))
  }

  map(change: (value: V, key: K) => V): ChunkedMap<K, V> {
    const entries = [...this.entries].map(([key, value]) => [key, change(value, key)] as const)
    return new ChunkedMap(this.#places, ChunkedList.of(entries))
  }

  *values(): Iterable<V> {
    for (const [, value] of this.entries) yield value
  }

  [Symbol.iterator](): Iterator<readonly [K, V]> {
    return this.entries[Symbol.iterator]()
  }
}
