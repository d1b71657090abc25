import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { nameProblem } from '../config/schema.ts'
import { configTemplate, nameFrom } from './config-template.ts'

test('names are made of what is there', () => {
  expect(nameFrom('My Shop!', 'system')).toBe('my-shop')
  expect(nameFrom('./data/uploads', 'files')).toBe('data-uploads')
  expect(nameFrom('///', 'system')).toBe('system')
  expect(nameProblem(nameFrom(`${'x'.repeat(47)}--y`, 'system'))).toBeUndefined()
})

test('each store that was found becomes a participant with a name of its own', () => {
  const text = configTemplate({
    system: 'shop',
    stores: [
      {
        kind: 'postgres',
        host: '/var/run/postgresql',
        port: 5432,
        user: 'shop',
        databases: ['orders', 'Orders', 'yes'],
        refusal: null,
      },
      { kind: 'redis', place: { host: 'localhost', port: 6379 }, needsPassword: true },
      { kind: 'sqlite', path: './data/app.sqlite' },
      { kind: 'files', path: './uploads: "odd"' },
    ],
  })
  expect(parse(text)).toEqual({
    version: 1,
    system: 'shop',
    repository: { path: './snapshots', passwordFile: './repository-password' },
    participants: {
      orders: { source: 'postgres', host: '/var/run/postgresql', port: 5432, database: 'orders', user: 'shop' },
      'orders-2': { source: 'postgres', host: '/var/run/postgresql', port: 5432, database: 'Orders', user: 'shop' },
      yes: { source: 'postgres', host: '/var/run/postgresql', port: 5432, database: 'yes', user: 'shop' },
      redis: { source: 'redis', host: 'localhost', port: 6379, passwordFile: './redis-password' },
      'data-app': { source: 'sqlite', path: './data/app.sqlite' },
      'uploads-odd': { source: 'files', path: './uploads: "odd"' },
    },
  })
})

test('a server that lets nobody look is named, and its participants are left to the user', () => {
  const text = configTemplate({
    system: 'shop',
    stores: [
      { kind: 'postgres', host: 'localhost', port: 5432, user: 'me', databases: null, refusal: 'no pg_hba.conf entry' },
    ],
  })
  expect(text).toContain('# PostgreSQL answers at localhost, port 5432, but "me" may not list its databases.')
  expect(text).toContain('  # postgres:\n  #   source: postgres\n  #   host: localhost\n')
  expect(parse(text)).toMatchObject({ participants: null })
})
