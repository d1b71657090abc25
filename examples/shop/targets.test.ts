import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, temporaryDirectory } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { connectDatabase, connectRedis, parseTargets, passwordOf, readTargets } from './targets.ts'

const database = { host: '127.0.0.1', port: 5432, database: 'orders', user: 'shop', passwordFile: 'secret' }
const whole = {
  orders: database,
  payments: { ...database, database: 'payments' },
  counters: { host: '127.0.0.1', port: 6379 },
  invoices: './invoices',
}

describe('shop.json', () => {
  test('has paths that start at its own directory', () => {
    const targets = parseTargets(whole, '/srv/shop', 'shop.json')
    expect(targets.invoices).toBe('/srv/shop/invoices')
    expect(targets.orders.passwordFile).toBe('/srv/shop/secret')
  })

  test.each([
    ['no object', [], 'must be an object'],
    ['an unknown key', { ...whole, order: {} }, 'unknown order'],
    ['no counters', { ...whole, counters: undefined }, 'counters must be an object'],
    ['a port that is none', { ...whole, counters: { host: 'a', port: 70_000 } }, 'counters: port'],
    ['a password where a file belongs', { ...whole, orders: { ...database, password: 'x' } }, 'unknown password'],
    ['no directory', { ...whole, invoices: '' }, 'invoices must be a text'],
  ])('with %s is refused', (_, content, message) => {
    expect(() => parseTargets(content, '/', 'shop.json')).toThrow(message)
  })

  test('that is no JSON is refused by its name', async () => {
    await using directory = await temporaryDirectory('targets')
    const path = join(directory.path, 'shop.json')
    await writeFile(path, '{ orders')
    await expect(readTargets(path)).rejects.toThrow('shop.json: is not JSON')
  })
})

test('a password file may end its line', async () => {
  await using directory = await temporaryDirectory('targets')
  const passwordFile = join(directory.path, 'password')
  await writeFile(passwordFile, ' with spaces \n')
  expect(await passwordOf({ ...database, passwordFile })).toBe(' with spaces ')
})

test('a store that is not there is an error with its name', async () => {
  const port = await freePort()
  const { passwordFile: _, ...target } = database
  await expect(connectDatabase({ ...target, port })).rejects.toThrow('ECONNREFUSED')
  await expect(connectRedis({ host: '127.0.0.1', port })).rejects.toThrow(`127.0.0.1:${port}`)
})
