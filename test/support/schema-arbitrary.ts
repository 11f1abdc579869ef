import fc, { type Arbitrary } from 'fast-check';

/** The part of JSON schema that the document of the server uses. */
export interface JsonSchema {
  $ref?: string;
  type?: string | string[];
  enum?: unknown[];
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  minItems?: number;
  maxItems?: number;
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: boolean | JsonSchema;
}

/** Lists and texts without a limit of their own are kept this short: what is long is for the mutations. */
const MAX_ITEMS = 3;
const MAX_LENGTH = 24;
const SPREAD = 1000;

/** Values that a schema allows. */
export class SchemaArbitraries {
  readonly #definitions: Record<string, JsonSchema>;
  readonly #preferred: Record<string, Arbitrary<unknown>>;

  /**
   * @param definitions  What `#/components/schemas/NAME` refers to.
   * @param preferred    Values of properties by name, in place of any that the schema allows: ids that exist, small counts. Such
   *                     a property is never left out.
   */
  constructor(definitions: Record<string, JsonSchema>, preferred: Record<string, Arbitrary<unknown>>) {
    this.#definitions = definitions;
    this.#preferred = preferred;
  }

  of(schema: JsonSchema): Arbitrary<unknown> {
    if (schema.$ref !== undefined) return this.of(this.#definitions[schema.$ref.split('/').at(-1)!]!);
    if (schema.enum) return fc.constantFrom(...schema.enum);
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices) return fc.oneof(...choices.map((choice) => this.of(choice)));
    const types = [schema.type ?? 'any'].flat();
    return fc.oneof(...types.map((type) => this.#ofType(type, schema)));
  }

  /** The value of a property or parameter. */
  named(name: string, schema: JsonSchema): Arbitrary<unknown> {
    return this.#preferred[name] ?? this.of(schema);
  }

  #ofType(type: string, schema: JsonSchema): Arbitrary<unknown> {
    const { minimum: min, maximum: max } = schema;
    if (type === 'null') return fc.constant(null);
    if (type === 'boolean') return fc.boolean();
    if (type === 'integer') return ofInteger(min, max);
    if (type === 'number') return fc.double({ min: min ?? -1000, max: max ?? 1000, noNaN: true });
    if (type === 'string') return ofString(schema);
    if (type === 'array') return this.#ofArray(schema);
    if (type === 'object') return this.#ofObject(schema);
    return fc.jsonValue({ maxDepth: 2 });
  }

  #ofArray({ items = {}, minItems: minLength = 0, maxItems = MAX_ITEMS }: JsonSchema): Arbitrary<unknown> {
    return fc.array(this.of(items), { minLength, maxLength: Math.max(minLength, Math.min(maxItems, MAX_ITEMS)) });
  }

  #ofObject({ properties = {}, required = [], additionalProperties }: JsonSchema): Arbitrary<unknown> {
    if (Object.keys(properties).length === 0) {
      const value = this.of(typeof additionalProperties === 'object' ? additionalProperties : {});
      return fc.dictionary(fc.oneof(fc.string({ maxLength: 8 }), fc.nat(300).map(String)), value, { maxKeys: MAX_ITEMS });
    }
    const model = Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, this.named(name, schema)]));
    return fc.record(model, {
      requiredKeys: Object.keys(model).filter((name) => required.includes(name) || name in this.#preferred),
    });
  }
}

/** Near the smallest that is allowed: large numbers are for the mutations. */
function ofInteger(minimum = -SPREAD, maximum = Number.MAX_SAFE_INTEGER): Arbitrary<number> {
  const min = Math.max(minimum, -SPREAD);
  return fc.integer({ min, max: Math.min(maximum, min + 2 * SPREAD) });
}

function ofString({ pattern, minLength = 0, maxLength = MAX_LENGTH }: JsonSchema): Arbitrary<string> {
  if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern));
  return fc.string({ minLength, maxLength: Math.max(minLength, Math.min(maxLength, MAX_LENGTH)), unit: 'binary' });
}

/** What no schema of the document allows anywhere, or that is at the edge of what it allows. */
const HOSTILE: readonly unknown[] = [
  null,
  true,
  '',
  ' ',
  '\u0000\u0001\u001b[31m\u007f',
  '\ud800',
  'a\udfffb',
  '<|im_start|>system',
  '__proto__',
  '../../etc/passwd',
  'x'.repeat(70_000),
  -1,
  0,
  0.5,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 53,
  Number.MAX_SAFE_INTEGER,
  [],
  {},
  [[]],
  [null],
  Array(5000).fill(0),
  Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`k${index}`, index])),
  nested(100),
  nested(1000),
];

const NAMES = ['unknown', '__proto__', 'constructor', 'toString', '\u0000', '\ud800', 'x'.repeat(5000), ''];

/** A value with one to three places changed: another type, an edge, a missing or an unknown field. */
export function mutated(value: Arbitrary<unknown>): Arbitrary<unknown> {
  const change = fc.record({
    place: fc.nat(),
    hostile: fc.constantFrom(...HOSTILE),
    kind: fc.constantFrom('replace', 'replace', 'remove', 'add'),
    name: fc.constantFrom(...NAMES),
  });
  return fc
    .tuple(value, fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([original, changes]) => changes.reduce(applyChange, structuredClone(original)));
}

interface Change {
  place: number;
  hostile: unknown;
  kind: string;
  name: string;
}

/** Of a property that may be called `__proto__`, which an assignment would not make. */
const ORDINARY = { enumerable: true, configurable: true, writable: true };

type Container = Record<string, unknown>;

function applyChange(value: unknown, { place, hostile: original, kind, name }: Change): unknown {
  const hostile = structuredClone(original);
  const places = placesIn(value);
  const chosen = places[place % (places.length + 1)];
  if (!chosen) return kind === 'replace' ? hostile : value;
  const { container, key } = chosen;
  if (kind === 'remove') delete container[key];
  else if (kind === 'add') Object.defineProperty(container, name, { value: hostile, ...ORDINARY });
  else container[key] = hostile;
  return value;
}

/** Every field and item at any depth. */
function placesIn(value: unknown): { container: Container; key: string }[] {
  if (typeof value !== 'object' || value === null) return [];
  const container = value as Container;
  return Object.keys(container).flatMap((key) => [{ container, key }, ...placesIn(container[key])]);
}

function nested(depth: number): unknown {
  let value: unknown = 0;
  for (let level = 0; level < depth; level++) value = level % 2 ? [value] : { a: value };
  return value;
}
