import type { SchemaElement } from 'hyparquet';

/**
 * Parquet columns for JSON values whose form is only known from the values, as Arrow would infer them: lists, structs with
 * the union of their fields, and leaves. Values of different kinds in one place become JSON text.
 */

type Shape =
  | { kind: 'null' | 'boolean' | 'integer' | 'number' | 'text' }
  | { kind: 'list'; element: Shape }
  | { kind: 'struct'; fields: Map<string, Shape> };

type Json = Record<string, unknown>;

/** Schema of an optional column `name` and its values in the form that the Parquet writer takes. */
export function inferColumn(name: string, values: readonly unknown[]): { schema: SchemaElement[]; data: unknown[] } {
  const shape = inferShape(values);
  return { schema: toSchema(name, shape), data: values.map((value) => toValue(value, shape)) };
}

function inferShape(values: readonly unknown[]): Shape {
  const present = values.filter((value) => value !== null && value !== undefined);
  const kinds = new Set(present.map(kindOf));
  if (kinds.size === 2 && kinds.has('integer') && kinds.has('number')) kinds.delete('integer');
  const [kind = 'null'] = kinds;
  if (kinds.size > 1) return { kind: 'text' };
  if (kind === 'list') return { kind, element: inferShape((present as unknown[][]).flat()) };
  return kind === 'struct' ? inferStruct(present as Json[]) : { kind };
}

/** A struct needs a field: one without any is written as null. */
function inferStruct(values: readonly Json[]): Shape {
  const names = new Set(values.flatMap((value) => Object.keys(value)));
  if (names.size === 0) return { kind: 'null' };
  return { kind: 'struct', fields: new Map([...names].map((name) => [name, inferShape(values.map((value) => value[name]))])) };
}

function kindOf(value: unknown): Shape['kind'] {
  if (typeof value === 'boolean') return 'boolean';
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 'integer' : 'number';
  if (typeof value === 'string') return 'text';
  return Array.isArray(value) ? 'list' : 'struct';
}

const LEAVES = {
  null: { type: 'INT32', logical_type: { type: 'NULL' } },
  boolean: { type: 'BOOLEAN' },
  integer: { type: 'INT64' },
  number: { type: 'DOUBLE' },
  text: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
} as const satisfies Record<string, Partial<SchemaElement>>;

function toSchema(name: string, shape: Shape): SchemaElement[] {
  if (shape.kind === 'list') return listSchema(name, toSchema('element', shape.element));
  if (shape.kind === 'struct')
    return structSchema(
      name,
      [...shape.fields].map(([field, inner]) => toSchema(field, inner)),
    );
  return [leafSchema(name, LEAVES[shape.kind])];
}

export function leafSchema(name: string, leaf: Partial<SchemaElement>): SchemaElement {
  return { name, repetition_type: 'OPTIONAL', ...leaf };
}

export function structSchema(name: string, fields: readonly SchemaElement[][]): SchemaElement[] {
  return [{ name, repetition_type: 'OPTIONAL', num_children: fields.length }, ...fields.flat()];
}

/** `element` must be named `element`, as Parquet's three-level lists have it. */
export function listSchema(name: string, element: readonly SchemaElement[]): SchemaElement[] {
  return [
    { name, repetition_type: 'OPTIONAL', num_children: 1, converted_type: 'LIST', logical_type: { type: 'LIST' } },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    ...element,
  ];
}

function toValue(value: unknown, shape: Shape): unknown {
  if (value === null || value === undefined || shape.kind === 'null') return null;
  if (shape.kind === 'list') return (value as unknown[]).map((item) => toValue(item, shape.element));
  if (shape.kind === 'struct') {
    return Object.fromEntries([...shape.fields].map(([name, inner]) => [name, toValue((value as Json)[name], inner)]));
  }
  if (shape.kind === 'integer') return BigInt(value as number);
  return shape.kind === 'text' && typeof value !== 'string' ? JSON.stringify(value) : value;
}
