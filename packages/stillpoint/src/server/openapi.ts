/** `/v1/openapi.json`, made from the table of routes and the schemas that check them (OpenAPI 3.1: JSON Schema 2020-12). */
import { z } from 'zod'
import { type ApiRoute, apiRoutes } from './api-routes.ts'
import { failureSchema, operationLineSchema } from './api-schema.ts'
import { healthSchema } from './find-server.ts'

type Json = Readonly<Record<string, unknown>>

function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): Json {
  // The certificate is checked by a function, and described by hand.
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { target: 'draft-2020-12', unrepresentable: 'any', io })
  return rest
}

function parametersOf({ path, params }: ApiRoute): readonly Json[] {
  if (params === null) return []
  const { properties } = z
    .looseObject({ properties: z.record(z.string(), z.unknown()) })
    .parse(jsonSchema(params, 'input'))
  return [...path.matchAll(/:(\w+)/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    schema: properties[name],
  }))
}

function operationOf(route: ApiRoute): Json {
  const { kind, summary, body, answer } = route
  const lines = { schema: jsonSchema(operationLineSchema, 'output') }
  return {
    operationId: kind,
    summary,
    parameters: parametersOf(route),
    ...(body === null
      ? {}
      : { requestBody: { content: { 'application/json': { schema: jsonSchema(body, 'input') } } } }),
    responses: {
      200: {
        description:
          'By the request\'s "accept": the result as JSON, when it is there; or lines of what happens, the last of which is the result or the failure.',
        content: {
          'application/json': { schema: jsonSchema(answer, 'output') },
          'application/x-ndjson': lines,
          'text/event-stream': lines,
        },
      },
      default: {
        description: 'What went wrong, and what to do about it',
        content: { 'application/json': { schema: jsonSchema(failureSchema, 'output') } },
      },
    },
  }
}

export function openApiDocument(): Json {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const route of apiRoutes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route) }
  }
  const events = { description: 'Live events', content: { 'text/event-stream': {}, 'application/x-ndjson': {} } }
  const health = {
    description: 'The server runs',
    content: { 'application/json': { schema: jsonSchema(healthSchema, 'output') } },
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Stillpoint', version: '1', description: 'docs/api.md' },
    security: [{ token: [] }],
    components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    paths: {
      ...paths,
      '/v1/events': {
        get: { operationId: 'events', summary: 'What happens on this server', responses: { 200: events } },
      },
      '/healthz': {
        get: { operationId: 'health', summary: 'Whether the server runs', security: [], responses: { 200: health } },
      },
    },
  }
}
