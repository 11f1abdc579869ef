import { isObject } from '../../core/json.js';
import { literal, type Part } from './grammar-parts.js';
import { GrammarRules } from './grammar-rules.js';
import { addJsonRule, addOtherKey } from './json-rules.js';
import {
  allowOnly,
  below,
  nodeOf,
  readCount,
  readList,
  refuse,
  resolveReference,
  type SchemaNode,
  shorten,
  tooLarge,
} from './schema-reader.js';

const MAX_DEPTH = 64;
/** libllama writes a repetition out, so all of them together are bounded too. */
const MAX_REPETITIONS = 1000;
const MAX_ALL_REPETITIONS = 10_000;
const MAX_PROPERTIES = 1000;
/** Schemas that are read, one again for each `allOf` that refers to it. Equal ones share a rule, so the rules do not bound them. */
const MAX_SCHEMAS = 10_000;

/** What a schema may say of each type, beside `type`. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength'],
  integer: [],
  number: [],
  boolean: [],
  null: [],
};

/**
 * A grammar of the JSON texts that a schema allows; every text that it allows is valid, not every valid one is allowed:
 * properties come in the order of the schema, ones that it does not name are left out unless it has `additionalProperties`,
 * and `prefixItems` are all there.
 *
 * Supported: `type` (one or several), `properties`, `required`, `additionalProperties`, `items`, `prefixItems`, `minItems`,
 * `maxItems`, `enum`, `const`, `anyOf`, `oneOf` (as `anyOf`), `allOf` of objects, `$ref` into the same schema with recursion,
 * `minLength`, `maxLength`, `true`. Annotations are passed over. Throws `INVALID_INPUT` that names the path of anything else, such
 * as `pattern`, `format` or `minimum`, and for a schema that is too large.
 *
 * @example
 * jsonSchemaToGrammar({ type: 'object', properties: { name: { type: 'string' } }, required: ['name'] });
 */
export function jsonSchemaToGrammar(schema: unknown): string {
  return new SchemaConverter(schema).convert();
}

/** A part of the schema and where it lies. */
interface Placed {
  schema: unknown;
  path: string;
}

/** What objects are made of. */
interface Members {
  properties: Map<string, Placed>;
  required: Set<string>;
  /** None where no other properties are to be written. */
  additional?: Placed;
}

class SchemaConverter {
  readonly #root: unknown;
  readonly #rules = new GrammarRules();
  /** Rules of what references point to, also while they are being made. */
  readonly #references = new Map<unknown, Part>();
  #repetitions = 0;
  #schemas = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  convert(): string {
    const root = this.#rules.add([[this.#reference({ schema: this.#root, path: '#' }, 0)]], 'root');
    return this.#rules.print(root);
  }

  /** The rule of a schema that others may point to. */
  #reference(placed: Placed, depth: number): Part {
    const known = this.#references.get(placed.schema);
    if (known) return known;
    const name = this.#rules.newName(placed.path);
    if (isObject(placed.schema)) this.#references.set(placed.schema, name);
    return this.#rules.add([[this.#convert(placed, depth)]], name);
  }

  /** The rule of a schema. */
  #convert({ schema, path }: Placed, depth: number): Part {
    if (depth > MAX_DEPTH) refuse(path, `lies more than ${MAX_DEPTH} deep`);
    if (++this.#schemas > MAX_SCHEMAS) throw tooLarge(`it has more than ${MAX_SCHEMAS} schemas in it`);
    if (schema === true) return addJsonRule(this.#rules, 'value');
    if (!isObject(schema)) return refuse(path, 'is not a schema that a value can have');
    const node = nodeOf(schema, path);
    const { fields } = node;
    if (fields.has('$ref')) return this.#reference(this.#resolve(node), depth + 1);
    for (const name of ['anyOf', 'oneOf']) if (fields.has(name)) return this.#convertAlternatives(node, name, depth);
    if (fields.has('allOf')) return this.#convertAll(node, depth);
    if (fields.has('const') || fields.has('enum')) return this.#convertValues(node);
    const types = typesOf(node);
    allowOnly(node, 'type', ...types.flatMap((type) => FIELDS[type] ?? []));
    const parts = types.map((type) => this.#convertType(node, type, depth));
    return parts.length === 1 ? (parts[0] as Part) : this.#addChoice(parts, node.path);
  }

  #resolve(node: SchemaNode): Placed {
    allowOnly(node, '$ref');
    const reference = node.fields.get('$ref');
    return { schema: resolveReference(this.#root, reference, below(node.path, '$ref')), path: shorten(String(reference)) };
  }

  #convertAlternatives(node: SchemaNode, name: string, depth: number): Part {
    allowOnly(node, name);
    const alternatives = readList(node, name).map((schema, i) => ({ schema, path: below(node.path, name, i) }));
    const parts = alternatives.map((each) => this.#convert(each, depth + 1));
    return this.#addChoice(parts, node.path);
  }

  #convertValues(node: SchemaNode): Part {
    allowOnly(node, 'enum', 'const', 'type');
    const values = node.fields.has('const') ? [node.fields.get('const')] : readList(node, 'enum');
    const types = node.fields.has('type') ? typesOf(node) : undefined;
    const possible = types ? values.filter((value) => types.some((type) => isOfType(value, type))) : values;
    if (possible.length === 0) refuse(node.path, 'has no value of its type');
    const texts = possible.map((value) => literal(stringify(value, node.path)));
    return this.#addChoice(texts, node.path);
  }

  /** One of these parts. */
  #addChoice(parts: readonly Part[], path: string): Part {
    return this.#rules.addChoice(
      [...new Set(parts)].map((part) => [part]),
      path,
    );
  }

  #convertType(node: SchemaNode, type: string, depth: number): Part {
    if (type === 'object') return this.#convertMembers(readMembers(node), node.path, depth);
    if (type === 'array') return this.#convertArray(node, depth);
    if (type === 'string') return this.#convertString(node);
    return addJsonRule(this.#rules, type);
  }

  #convertString(node: SchemaNode): Part {
    const least = readCount(node, 'minLength', MAX_REPETITIONS);
    const most = readCount(node, 'maxLength', MAX_REPETITIONS);
    if (least === undefined && most === undefined) return addJsonRule(this.#rules, 'string');
    const characters = this.#repeat(addJsonRule(this.#rules, 'character'), least, most, node.path);
    return this.#rules.add([['"\\""', characters, '"\\""']]);
  }

  #convertArray(node: SchemaNode, depth: number): Part {
    const { fields, path } = node;
    const least = readCount(node, 'minItems', MAX_REPETITIONS) ?? 0;
    const most = readCount(node, 'maxItems', MAX_REPETITIONS);
    const placed = (name: string, schema: unknown) => this.#convert({ schema, path: below(path, name) }, depth + 1);
    const tuple = fields.has('prefixItems') ? readList(node, 'prefixItems').slice(0, most) : [];
    const first = tuple.map((schema, i) => placed(`prefixItems/${i}`, schema));
    const items = fields.get('items') ?? first.length === 0;
    const [fewest, largest] = [least - first.length, most === undefined ? undefined : most - first.length];
    if (items === false || largest === 0) {
      if (fewest > 0) refuse(below(path, 'minItems'), 'asks for more items than there can be');
      return this.#convertItems(first, undefined, path);
    }
    return this.#convertItems(first, { item: placed('items', items), least: Math.max(0, fewest), most: largest }, path);
  }

  /** An array of some items, then of `least` to `most` further ones. */
  #convertItems(first: readonly Part[], further: FurtherItems | undefined, path: string): Part {
    const space = addJsonRule(this.#rules, 'space');
    const end = [space, '"]"'];
    const array = (...behind: Part[]) => this.#rules.add([['"["', space, ...behind]]);
    const listed = first.flatMap((item, i) => (i === 0 ? [item] : ['","', space, item]));
    if (!further) return listed.length === 0 ? array('"]"') : array(...listed, ...end);
    const { item, least, most } = further;
    const more = this.#rules.add([['","', space, item]]);
    if (first.length > 0) return array(...listed, this.#repeat(more, least, most, path), ...end);
    const behindFirst = this.#repeat(more, Math.max(0, least - 1), most === undefined ? undefined : most - 1, path);
    const items = [item, behindFirst, ...end];
    return least > 0 ? array(...items) : array(this.#rules.add([items, ['"]"']]));
  }

  #convertAll(node: SchemaNode, depth: number): Part {
    const parts = readList(node, 'allOf').map((schema, i) => ({ schema, path: below(node.path, 'allOf', i) }));
    const own = new Map([...node.fields].filter(([name]) => name !== 'allOf'));
    if (parts.length === 1 && own.size === 0) return this.#convert(parts[0] as Placed, depth + 1);
    const merged: Members = { properties: new Map(), required: new Set() };
    for (const each of [...parts.map((part) => this.#objectNode(part, depth)), { path: node.path, fields: own }]) {
      allowOnly(each, 'type', 'properties', 'required');
      const { properties, required } = readMembers(each);
      for (const [key, value] of properties) {
        if (merged.properties.has(key)) refuse(value.path, 'is defined twice');
        merged.properties.set(key, value);
      }
      for (const key of required) merged.required.add(key);
    }
    return this.#convertMembers(merged, node.path, depth);
  }

  #objectNode({ schema, path }: Placed, depth: number): SchemaNode {
    if (depth > MAX_DEPTH) refuse(path, `lies more than ${MAX_DEPTH} deep`);
    if (!isObject(schema)) return refuse(path, 'is not a schema of an object');
    const node = nodeOf(schema, path);
    if (node.fields.has('$ref')) return this.#objectNode(this.#resolve(node), depth + 1);
    if (typesOf(node).join() !== 'object') refuse(path, 'is not a schema of an object');
    return node;
  }

  /**
   * An object. From the last property to the first, `members` are what may be written from there on if something is, and behind a
   * member come a comma and those of the next one. So a rule that chooses a property begins in one way for each of them.
   */
  #convertMembers({ properties, required, additional }: Members, path: string, depth: number): Part {
    refuseMany(properties.size);
    const space = addJsonRule(this.#rules, 'space');
    const keys = [...properties.keys()];
    const behindComma = (parts: readonly Part[]) => ['","', space, ...parts];
    const other = additional ? this.#otherMember(keys, additional, depth) : undefined;
    let members = other ? [...other, `${this.#rules.add([behindComma(other)])}*`] : [];
    let mayEnd = true;
    const orNothing = (parts: readonly Part[]) => (mayEnd && members.length > 0 ? [this.#rules.add([[], parts])] : parts);
    for (const key of keys.reverse()) {
      const value = this.#convert(properties.get(key) as Placed, depth + 1);
      const behind = members.length > 0 ? orNothing(behindComma(members)) : [];
      const member = [literal(JSON.stringify(key)), '":"', space, value, ...behind];
      const isRequired = required.has(key);
      members = isRequired || members.length === 0 ? member : [this.#rules.addFrom(path, [member, members])];
      if (isRequired) mayEnd = false;
    }
    return this.#rules.add([['"{"', space, ...orNothing(members), space, '"}"']]);
  }

  #otherMember(keys: readonly string[], additional: Placed, depth: number): Part[] {
    const key = keys.length > 0 ? addOtherKey(this.#rules, keys) : addJsonRule(this.#rules, 'string');
    return [key, '":"', addJsonRule(this.#rules, 'space'), this.#convert(additional, depth + 1)];
  }

  #repeat(part: Part, least = 0, most: number | undefined, path: string): Part {
    this.#repetitions += most ?? least;
    if (this.#repetitions > MAX_ALL_REPETITIONS) refuse(path, `brings the lengths in the schema above ${MAX_ALL_REPETITIONS}`);
    if (most !== undefined && least > most) refuse(path, 'has a largest length below its least one');
    return `${part}{${least},${most ?? ''}}`;
  }
}

interface FurtherItems {
  item: Part;
  least: number;
  most: number | undefined;
}

/** The types that a schema names, or the one that its fields tell of. */
function typesOf(node: SchemaNode): string[] {
  const type = node.fields.get('type');
  if (type === undefined) {
    const told = Object.keys(FIELDS).filter((name) => FIELDS[name]?.some((field) => node.fields.has(field)));
    return told.length > 0 ? told : Object.keys(FIELDS);
  }
  const types = Array.isArray(type) ? [...new Set(readList(node, 'type'))] : [type];
  for (const each of types) {
    if (typeof each !== 'string' || !Object.hasOwn(FIELDS, each))
      refuse(below(node.path, 'type'), 'is not a type of JSON Schema');
  }
  return types as string[];
}

function readMembers({ path, fields }: SchemaNode): Members {
  const { properties = {}, required = [], additionalProperties } = Object.fromEntries(fields);
  if (!isObject(properties)) return refuse(below(path, 'properties'), 'is not an object');
  if (!Array.isArray(required) || required.some((key) => typeof key !== 'string')) {
    return refuse(below(path, 'required'), 'is not a list of names');
  }
  refuseMany(Object.keys(properties).length);
  const placed = new Map<string, Placed>();
  for (const [key, schema] of Object.entries(properties)) placed.set(key, { schema, path: below(path, 'properties', key) });
  const isOpen = additionalProperties ?? (placed.size === 0 && required.length === 0 && !fields.has('properties'));
  for (const key of required) if (!placed.has(key)) placed.set(key, { schema: isOpen || true, path: below(path, 'required') });
  const members: Members = { properties: placed, required: new Set(required) };
  if (isOpen !== false) members.additional = { schema: isOpen, path: below(path, 'additionalProperties') };
  return members;
}

function refuseMany(properties: number): void {
  if (properties > MAX_PROPERTIES) throw tooLarge(`an object has more than ${MAX_PROPERTIES} properties`);
}

function isOfType(value: unknown, type: string): boolean {
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isObject(value);
  return type === 'null' ? value === null : typeof value === type;
}

function stringify(value: unknown, path: string): string {
  try {
    return JSON.stringify(value);
  } catch {
    return refuse(path, 'has a value that is nested too deep');
  }
}

/** Any JSON object. */
export const JSON_OBJECT_GRAMMAR = jsonSchemaToGrammar({ type: 'object' });
