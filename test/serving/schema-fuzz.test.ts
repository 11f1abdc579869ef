import fc, { type Arbitrary } from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Call, PocketServer, type Reply } from '../support/pocket-server.js';
import { type JsonSchema, mutated, SchemaArbitraries } from '../support/schema-arbitrary.js';

/**
 * Requests made from the schemas of the OpenAPI document, valid ones and broken ones. The server must never fail nor hang, and
 * every answer must be one that the document describes. `CARTRIDGES_FUZZ_RUNS` asks for more requests of each operation.
 */

const RUNS = Number(process.env['CARTRIDGES_FUZZ_RUNS'] || 20);
const SEED = Number(process.env['CARTRIDGES_FUZZ_SEED'] || 1);
const LONGEST_MS = 60_000;

interface Operation {
  parameters?: { name: string; in: 'path' | 'query'; required: boolean; schema: JsonSchema }[];
  requestBody?: { content: Record<string, { schema: JsonSchema }> };
  responses: Record<string, { content?: Record<string, { schema: JsonSchema }> }>;
}

interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, JsonSchema> };
}

const server = await PocketServer.start({
  cartridges: { harbour: 'The harbour master is called Ines.' },
  // One answer cannot be longer, whatever a request asks for.
  serving: { contextTokens: 256, requestTokens: 64, sources: [] },
});
afterAll(() => server.close());

const document: Document = (await server.send({ path: '/openapi.json' })).json;
const { schemas } = document.components;
const file = (await server.upload('{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {}}')).json.id;

const json_schema = { name: 'answer', schema: { type: 'object', properties: { a: { type: 'integer' } } } };
/** Values that get a request as far as possible, at a small price. */
const small = fc.integer({ min: 1, max: 3 });
const values = new SchemaArbitraries(schemas, {
  model: fc.constantFrom('pocket', 'pocket:harbour', 'pocket:nobody', 'gpt-4'),
  id: fc.constantFrom('harbour', 'spare', 'org/name', file, 'nobody'),
  alias: fc.constantFrom('berth', 'harbour'),
  after: fc.constantFrom(file, 'nobody'),
  input_file_id: fc.constantFrom(file, 'nobody'),
  completion_window: fc.constantFrom('1h', '2d', '9999d'),
  n: small,
  max_tokens: small,
  max_completion_tokens: fc.constant(null),
  top_logprobs: fc.constant(null),
  stream_options: fc.constant(null),
  best_of: fc.constant(null),
  logit_bias: fc.constantFrom(null, { 5: 1.5 }),
  apply_chat_template_overrides: fc.constantFrom(null, {}, { enable_thinking: true }),
  response_format: fc.constantFrom(null, { type: 'text' }, { type: 'json_object' }, { type: 'json_schema', json_schema }),
});

const HOSTILE_SEGMENTS = [
  '..',
  '.',
  '%2e%2e',
  '..%2F..%2F..%2Fetc%2Fpasswd',
  '%2F',
  'org%2Fname',
  '%5C..%5C',
  '%00',
  'a%00b',
  '%0d%0aset-cookie:x',
  '%ff%fe',
  '%',
  '%zz',
  '%F0%9F%92%A9',
  '',
  '*',
  ':id',
  '{id}',
  '__proto__',
  'downloads',
  'x'.repeat(3000),
];

const hostileSegment = fc.constantFrom(...HOSTILE_SEGMENTS);

type Parameter = NonNullable<Operation['parameters']>[number];

/** A value for a path or a query, now and then a hostile one. */
function segmentOf({ name, schema, required }: Parameter): Arbitrary<string | undefined> {
  const encoded = values.named(name, schema).map((value) => encodeURIComponent(String(value)));
  const given = fc.oneof({ arbitrary: encoded, weight: 5 }, { arbitrary: hostileSegment, weight: 1 });
  return required ? given : fc.option(given, { nil: undefined, freq: 1 });
}

/** A path with its parameters and its query, which seldom has an unknown field. */
function pathOf(pattern: string, parameters: readonly Parameter[]): Arbitrary<string> {
  const unknown = fc.oneof({ arbitrary: fc.constant(undefined), weight: 10 }, { arbitrary: hostileSegment, weight: 1 });
  return fc.tuple(fc.tuple(...parameters.map(segmentOf)), unknown).map(([filled, extra]) => {
    const pairs = parameters.map((parameter, index) => ({ ...parameter, value: filled[index] }));
    const inPath = pairs.filter((pair) => pair.in === 'path');
    const path = inPath.reduce((text, { name, value }) => text.replace(`{${name}}`, () => value!), pattern);
    const asked = [...pairs.filter((pair) => pair.in === 'query'), { name: 'unknown', value: extra }];
    const query = asked.filter(({ value }) => value !== undefined).map(({ name, value }) => `${name}=${value}`);
    return query.length === 0 ? path : `${path}?${query.join('&')}`;
  });
}

/** The body of a request with its media type. */
function bodyOf({ requestBody }: Operation): Arbitrary<Pick<Call, 'body' | 'headers'>> {
  const [type, content] = Object.entries(requestBody?.content ?? {})[0] ?? [];
  if (type === undefined) return fc.constantFrom({}, { body: '{}', headers: { 'content-type': 'application/json' } });
  const typed = (body: string | Uint8Array, given = type) => ({ body, headers: { 'content-type': given } });
  const bytes = fc.uint8Array({ maxLength: 300 });
  const wrong = fc.oneof(
    bytes.map((body) => typed(body)),
    fc.constantFrom('', '{', '[', '"', 'null', '[]', '{"a":1}{', '\ufeff{}', '['.repeat(100_000)).map((body) => typed(body)),
    bytes.map((body) => typed(body, 'text/plain')),
    bytes.map((body) => typed(body, 'application/json; charset=utf-16')),
  );
  if (type === 'application/octet-stream') return wrong;
  const valid = values.of(content!.schema);
  if (type === 'multipart/form-data') {
    const form = fc.oneof(valid, mutated(valid)).map((value) => typed(toForm(value), `${type}; boundary=part`));
    return fc.oneof({ arbitrary: form, weight: 6 }, { arbitrary: wrong, weight: 1 });
  }
  const json = (value: Arbitrary<unknown>) => value.map((each) => typed(JSON.stringify(each) ?? ''));
  return fc.oneof(
    { arbitrary: json(valid), weight: 4 },
    { arbitrary: json(mutated(valid)), weight: 6 },
    { arbitrary: wrong, weight: 1 },
  );
}

function toForm(value: unknown): string {
  const parts = Object.entries(value ?? {}).map(([name, field]) => {
    const filename = name === 'file' ? '; filename="in.jsonl"' : '';
    return `--part\r\ncontent-disposition: form-data; name="${name}"${filename}\r\n\r\n${String(field)}\r\n`;
  });
  return `${parts.join('')}--part--\r\n`;
}

/** What checks an answer of each schema of the document. */
const validators = new Map<JsonSchema, z.ZodType>();

function validatorOf(schema: JsonSchema): z.ZodType {
  let validator = validators.get(schema);
  if (!validator) {
    const whole = { ...schema, $defs: schemas };
    const local = JSON.parse(JSON.stringify(whole).replaceAll('#/components/schemas/', '#/$defs/'));
    validator = z.fromJSONSchema(local);
    validators.set(schema, validator);
  }
  return validator;
}

const errorBody = z.strictObject({
  error: z.strictObject({
    message: z.string().min(1),
    type: z.string().min(1),
    param: z.string().nullable(),
    code: z.string().min(1),
  }),
});

function checkReply({ responses }: Operation, { status, headers, text, json }: Reply): void {
  expect(status).toBeLessThan(500);
  const response = responses[status] ?? responses['default'];
  expect(response, `an answer with the status ${status} is documented`).toBeDefined();
  if (status >= 400) {
    expect(errorBody.safeParse(json).error?.issues).toBeUndefined();
    return;
  }
  const type = headers['content-type']!.split(';')[0]!;
  const schema = response?.content?.[type]?.schema;
  expect(schema, `an answer of the type ${type} is documented`).toBeDefined();
  const parts = type === 'text/event-stream' ? eventsOf(text) : type === 'application/json' ? [json] : [];
  for (const part of parts) expect(validatorOf(schema!).safeParse(part).error?.issues, text.slice(0, 500)).toBeUndefined();
}

function eventsOf(text: string): unknown[] {
  const events = text.trim().split('\n\n');
  expect(events.at(-1)).toBe('data: [DONE]');
  return events.slice(0, -1).map((event) => JSON.parse(event.replace('data: ', '')));
}

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => [method.toUpperCase(), path, operation] as const),
);

describe('no request makes the server fail, and every answer is documented', () => {
  test.each(operations)('%s %s', { timeout: 600_000 }, async (method, path, operation) => {
    const call = fc.tuple(pathOf(path, operation.parameters ?? []), bodyOf(operation));
    const sendAndCheck = async ([target, body]: [string, Pick<Call, 'body' | 'headers'>]) => {
      const reply = await server.send({ method, path: target, signal: AbortSignal.timeout(LONGEST_MS), ...body });
      // A path that leaves its pattern meets another route, or none.
      if (isOfPattern(target, path)) checkReply(operation, reply);
      else expect(reply.status).toBeLessThan(500);
    };
    // Operations with one schema get different requests.
    const seed = SEED + operations.findIndex((each) => each[2] === operation);
    await fc.assert(fc.asyncProperty(call, sendAndCheck), { numRuns: RUNS, seed, endOnFailure: true });
  });

  test('and it is as free as before', async () => {
    const metrics = await server.whenIdle();
    expect(metrics.get('kv_cells{owner="requests"}')).toBe(0);
    expect((await server.send({ path: '/ready' })).status).toBe(200);
  });
});

function isOfPattern(target: string, pattern: string): boolean {
  const segments = (path: string) => path.split('?')[0]!.split('/');
  const [given, expected] = [segments(new URL(target, server.url).pathname), segments(pattern)];
  const fits = (segment: string, index: number) => given[index] === segment || (segment.startsWith('{') && given[index] !== '');
  return (
    given.length === expected.length && expected.every(fits) && !(target.includes('downloads') && !pattern.includes('downloads'))
  );
}
