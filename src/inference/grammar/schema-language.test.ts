import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PocketGrammars } from '../../../test/support/pocket-grammars.js';
import { isObject } from '../../core/json.js';
import { jsonSchemaToGrammar } from './json-schema-grammar.js';

const RUNS = 400;

let grammars: PocketGrammars;
beforeAll(async () => {
  grammars = await PocketGrammars.load();
});
afterAll(() => grammars.dispose());

interface Schema {
  $ref?: '#';
  type?: 'null' | 'integer' | 'number' | 'string';
  maxLength?: number;
  enum?: unknown[];
  anyOf?: Schema[];
  items?: Schema;
  minItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | false;
}

const KEYS = ['a', 'ab', 'b'];
const scalars = [null, -1, 0, 1, 12, 1.5, '', 'a', 'ab', 'é'];

/** What the grammar promises of a schema, read from the schema: properties are in order, others come behind them. */
function isValid(value: unknown, schema: Schema, root: Schema): boolean {
  if (schema.$ref) return isValid(value, root, root);
  if (schema.anyOf) return schema.anyOf.some((each) => isValid(value, each, root));
  if (schema.enum) return schema.enum.some((each) => JSON.stringify(each) === JSON.stringify(value));
  const { items } = schema;
  if (items)
    return Array.isArray(value) && value.length >= (schema.minItems ?? 0) && value.every((each) => isValid(each, items, root));
  if (schema.properties) return isObject(value) && hasValidMembers(Object.entries(value), schema, root);
  if (schema.type === 'null') return value === null;
  if (schema.type === 'string')
    return typeof value === 'string' && value.length <= (schema.maxLength ?? Number.POSITIVE_INFINITY);
  return typeof value === 'number' && (schema.type === 'number' || Number.isInteger(value));
}

function hasValidMembers(members: [string, unknown][], schema: Schema, root: Schema): boolean {
  const { properties = {}, required = [], additionalProperties: other } = schema;
  const known = Object.keys(properties);
  const ranks = members.map(([key]) => (known.includes(key) ? known.indexOf(key) : known.length));
  return (
    required.every((key) => members.some(([name]) => name === key)) &&
    ranks.every((rank, index) => index === 0 || rank >= (ranks[index - 1] as number)) &&
    members.every(([key, value]) => {
      const memberSchema = properties[key] ?? (other || undefined);
      return memberSchema !== undefined && isValid(value, memberSchema, root);
    })
  );
}

/** Some values that a schema allows, and some that it does not, for `pick` gives a wrong one now and then. */
function someValue(schema: Schema, root: Schema, pick: (count: number) => number, depth = 0): unknown {
  const of = (each: Schema) => someValue(each, root, pick, depth + 1);
  if (depth > 6 || pick(12) === 0) return scalars[pick(scalars.length)];
  if (schema.$ref) return of(root);
  if (schema.anyOf) return of(schema.anyOf[pick(schema.anyOf.length)] as Schema);
  if (schema.enum) return schema.enum[pick(schema.enum.length)];
  const { items } = schema;
  if (items) return Array.from({ length: pick(2) + (pick(4) > 0 ? (schema.minItems ?? 0) : 0) }, () => of(items));
  if (schema.properties) return membersOf(schema, of, pick);
  const fitting = scalars.filter((each) => isValid(each, schema, root));
  return fitting[pick(fitting.length)];
}

function membersOf(schema: Schema, of: (each: Schema) => unknown, pick: (count: number) => number): Record<string, unknown> {
  const { properties = {}, required = [], additionalProperties } = schema;
  const members = Object.entries(properties).filter(([key]) => pick(required.includes(key) ? 12 : 2) > 0);
  const others = additionalProperties ? KEYS.filter((key) => !properties[key] && pick(3) === 0) : [];
  return Object.fromEntries([
    ...members.map(([key, each]) => [key, of(each)]),
    ...others.map((key) => [key, of(additionalProperties as Schema)]),
  ]);
}

const { schema: anySchema } = fc.letrec<{ schema: Schema; object: Schema }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 4, depthSize: 'medium' },
    fc.constantFrom<Schema>(
      { type: 'null' },
      { type: 'integer' },
      { type: 'number' },
      { type: 'string' },
      { type: 'string', maxLength: 1 },
    ),
    fc.record({ enum: fc.uniqueArray(fc.constantFrom(...scalars, [], {}, [1], { a: 1 }), { minLength: 1, maxLength: 4 }) }),
    fc.constant<Schema>({ $ref: '#' }),
    fc.record({ anyOf: fc.array(tie('schema'), { minLength: 2, maxLength: 4 }) }),
    fc.record({ anyOf: fc.array(tie('object'), { minLength: 2, maxLength: 3 }) }),
    fc.record({ items: tie('schema'), minItems: fc.nat(2) }),
    tie('object'),
  ),
  object: fc
    .record({
      properties: fc.dictionary(fc.constantFrom(...KEYS), tie('schema'), { maxKeys: 3 }),
      required: fc.subarray(KEYS),
      additionalProperties: fc.oneof(fc.constant(false as const), tie('schema')),
    })
    .map((object) => ({ ...object, required: object.required.filter((key) => object.properties[key]) })),
}));

/** The grammar of a schema, unless it is refused. */
function grammarOf(schema: Schema): string | undefined {
  try {
    return jsonSchemaToGrammar(schema);
  } catch (error) {
    expect(error).toMatchObject({ code: 'INVALID_INPUT' });
    return undefined;
  }
}

it('allows exactly the values that a schema allows, however its alternatives begin', () => {
  const seen = { valid: 0, invalid: 0, refused: 0 };
  const property = fc.property(anySchema, fc.infiniteStream(fc.nat()), (schema, numbers) => {
    const grammar = grammarOf(schema);
    if (grammar === undefined) seen.refused++;
    fc.pre(grammar !== undefined);
    const pick = (count: number) => (numbers.next().value as number) % count;
    for (let round = 0; round < 4; round++) {
      const value = someValue(schema, schema, pick);
      const expected = isValid(value, schema, schema);
      expect(grammars.allows(grammar as string, JSON.stringify(value)), JSON.stringify(value)).toBe(expected);
      seen[expected ? 'valid' : 'invalid']++;
    }
  });
  fc.assert(property, { numRuns: RUNS, seed: 1 });
  expect(seen.valid).toBeGreaterThan(RUNS);
  expect(seen.invalid).toBeGreaterThan(RUNS / 4);
  expect(seen.refused).toBeLessThan(RUNS / 2);
});
