import { CartridgesError } from '../../core/errors.js';

/** A schema that is an object, and where it lies in the whole one. */
export interface SchemaNode {
  readonly path: string;
  readonly fields: ReadonlyMap<string, unknown>;
}

const MAX_NAME_CHARACTERS = 100;

/** What says nothing about the values. */
const ANNOTATIONS = new Set([
  ...['title', 'description', 'default', 'examples', '$comment', '$schema', '$id', '$defs', 'definitions'],
  ...['deprecated', 'readOnly', 'writeOnly'],
]);

/** The fields of a schema without its annotations. */
export function nodeOf(schema: Record<string, unknown>, path: string): SchemaNode {
  return { path, fields: new Map(Object.entries(schema).filter(([name]) => !ANNOTATIONS.has(name))) };
}

/** A path as JSON pointers write it, with long names cut: each of thousands of properties has one. */
export function below(path: string, ...names: (string | number)[]): string {
  return [path, ...names.map((name) => shorten(String(name)).replaceAll('~', '~0').replaceAll('/', '~1'))].join('/');
}

/** A name or a path for messages. */
export function shorten(name: string): string {
  return name.length > MAX_NAME_CHARACTERS ? `${name.slice(0, MAX_NAME_CHARACTERS)}…` : name;
}

export function refuse(path: string, reason: string): never {
  throw new CartridgesError('INVALID_INPUT', `the schema cannot be used: ${path} ${reason}`, {
    hint:
      'use type, properties, required, additionalProperties, items, prefixItems, minItems, maxItems, minLength, maxLength, ' +
      'enum, const, anyOf, oneOf, allOf and $ref',
  });
}

export function tooLarge(reason: string): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `the schema is too large: ${reason}`, { hint: 'make it simpler, or split it' });
}

/** Throws for a field that is none of these: what cannot be held is not passed over. */
export function allowOnly({ path, fields }: SchemaNode, ...names: string[]): void {
  for (const name of fields.keys()) {
    if (!names.includes(name)) refuse(below(path, name), 'is not supported here');
  }
}

/** A count of at least 0, or what stands for none. */
export function readCount({ path, fields }: SchemaNode, name: string, most: number): number | undefined {
  const count = fields.get(name);
  if (count === undefined) return undefined;
  if (typeof count !== 'number' || !Number.isInteger(count) || count < 0 || count > most) {
    refuse(below(path, name), `is not a whole number from 0 to ${most}`);
  }
  return count as number;
}

export function readList({ path, fields }: SchemaNode, name: string): unknown[] {
  const list = fields.get(name);
  if (!Array.isArray(list) || list.length === 0) return refuse(below(path, name), 'is not a list with entries');
  return list;
}

/** What a reference inside of a schema points to, such as `#/$defs/node`. */
export function resolveReference(root: unknown, reference: unknown, path: string): unknown {
  if (typeof reference !== 'string' || !/^#(\/|$)/.test(reference)) refuse(path, 'does not point into the same schema');
  let at = root;
  for (const name of (reference as string).split('/').slice(1)) {
    const key = decode(name, path).replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key))
      refuse(path, `points to ${shorten(reference as string)}, which is not there`);
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}

function decode(name: string, path: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return refuse(path, 'is not a pointer');
  }
}
