import type { z } from 'zod';
import { CartridgesError } from '../core/errors.js';
import { isObject } from '../core/json.js';
import { type Settings, type SettingsInput, settingsSchema } from './settings.js';
import { suggest } from './suggest.js';

/** One setting with a value, and where it was said (`--tokens`, `CARTRIDGES_DEVICE`, a file): errors name the place. */
export interface SettingAssignment {
  /** For example `training.tokens`. */
  path: string;
  value: unknown;
  origin: string;
  /** The value is text from a command line or the environment and is read in the type of its setting. */
  isText?: boolean;
}

/** A setting as documentation shows it. */
export interface SettingDescription {
  path: string;
  description: string;
  default: unknown;
}

/** Every setting, in the order of the schema. */
export function describeSettings(): SettingDescription[] {
  const defaults = valuesByPath(settingsSchema.parse({}));
  return [...leaves].map(([path, schema]) => ({
    path,
    description: schema.description ?? '',
    default: defaults.get(path),
  }));
}

/** Checks settings that a program gives and fills in defaults. Throws as {@link resolveAssignments} does. */
export function resolveSettings(input: SettingsInput = {}): Settings {
  return resolveAssignments(assignmentsOf(input, 'the settings'));
}

/**
 * Puts assignments together, later ones winning, and fills in defaults.
 *
 * @throws {CartridgesError}  `UNKNOWN_OPTION` with the setting that was probably meant; `INVALID_OPTION` for a wrong value.
 */
export function resolveAssignments(assignments: readonly SettingAssignment[]): Settings {
  const input: Record<string, unknown> = {};
  const origins = new Map<string, string>();
  for (const assignment of assignments) {
    const value = checkAssignment(assignment);
    if (value === undefined) continue;
    const [first, second] = assignment.path.split('.') as [string, string?];
    if (second === undefined) input[first] = value;
    else input[first] = { ...(input[first] as object | undefined), [second]: value };
    origins.set(assignment.path, assignment.origin);
  }
  const settings = settingsSchema.parse(input);
  checkTogether(settings, origins);
  return settings;
}

/** The assignments in an object with the shape of the settings. Throws `INVALID_OPTION` when it has another shape. */
export function assignmentsOf(input: unknown, origin: string): SettingAssignment[] {
  return Object.entries(asObject(input, origin)).flatMap(([key, value]) =>
    sections.has(key)
      ? Object.entries(asObject(value, `${key} in ${origin}`)).map(([name, inner]) => ({
          path: `${key}.${name}`,
          value: inner,
          origin,
        }))
      : [{ path: key, value, origin }],
  );
}

const sections: ReadonlyMap<string, z.ZodObject> = new Map(
  Object.entries(settingsSchema.shape)
    .map(([name, schema]) => [name, unwrap(schema)] as const)
    .filter((entry): entry is [string, z.ZodObject] => entry[1].def.type === 'object'),
);

const leaves: ReadonlyMap<string, z.ZodType> = new Map(
  Object.entries(settingsSchema.shape).flatMap(([name, schema]): [string, z.ZodType][] => {
    const section = sections.get(name);
    if (!section) return [[name, schema]];
    return Object.entries(section.shape).map(([key, inner]) => [`${name}.${key}`, inner as z.ZodType]);
  }),
);

/** The schema below optional and default. */
function unwrap(schema: z.ZodType): z.ZodType {
  const { innerType } = schema.def as { innerType?: z.ZodType };
  return innerType ? unwrap(innerType) : schema;
}

function asObject(value: unknown, where: string): Record<string, unknown> {
  if (isObject(value)) return value;
  throw new CartridgesError('INVALID_OPTION', `${where}: expected an object of settings`);
}

function checkAssignment({ path, value, origin, isText }: SettingAssignment): unknown {
  const schema = leaves.get(path);
  if (!schema) throw unknownSetting(path, origin);
  const read = isText ? readText(value as string, unwrap(schema)) : value;
  const result = schema.safeParse(read);
  if (result.success) return read;
  const shown = JSON.stringify(value);
  throw new CartridgesError('INVALID_OPTION', `${origin}: ${path} cannot be ${shown} (${result.error.issues[0]?.message})`, {
    hint: `${path}: ${schema.description}`,
  });
}

function unknownSetting(path: string, origin: string): CartridgesError {
  return new CartridgesError('UNKNOWN_OPTION', `${origin}: there is no setting ${path}`, { hint: hintFor(path) });
}

function hintFor(path: string): string {
  const known = [...leaves.keys()];
  if (sections.has(path)) return `set one of: ${known.filter((leaf) => leaf.startsWith(`${path}.`)).join(', ')}`;
  const meant = suggest(path, known);
  return meant === undefined ? 'cartridges settings lists all settings' : `did you mean ${meant}?`;
}

/** Text in the type of a setting; text that does not read as one stays and is refused by the schema. */
function readText(text: string, schema: z.ZodType): unknown {
  if (schema.def.type === 'number' && text.trim() !== '' && Number.isFinite(Number(text))) return Number(text);
  if (schema.def.type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** What no single setting can say. */
function checkTogether({ training, synthesis, serving }: Settings, origins: ReadonlyMap<string, string>): void {
  const fail = (path: string, problem: string): never => {
    throw new CartridgesError('INVALID_OPTION', `${origins.get(path) ?? 'the defaults'}: ${path} ${problem}`);
  };
  if (training.initializer === 'cartridge' && training.initializerCartridge === undefined) {
    fail('training.initializer', 'is cartridge, which needs training.initializerCartridge');
  }
  if (training.tokens !== undefined && training.frozenTokens >= training.tokens) {
    fail('training.tokens', `must be larger than training.frozenTokens (${training.frozenTokens})`);
  }
  const { chunkMinTokens, chunkMaxTokens } = synthesis;
  if (chunkMinTokens !== undefined && chunkMaxTokens !== undefined && chunkMinTokens > chunkMaxTokens) {
    fail('synthesis.chunkMinTokens', `is larger than synthesis.chunkMaxTokens (${chunkMaxTokens})`);
  }
  if (serving.maxChoices > serving.maxAnswers) {
    const path = origins.has('serving.maxChoices') ? 'serving.maxChoices' : 'serving.maxAnswers';
    fail(path, `leaves more answers to one prompt (${serving.maxChoices}) than to a request (${serving.maxAnswers})`);
  }
}

function valuesByPath(settings: Settings): Map<string, unknown> {
  return new Map(assignmentsOf(settings, 'the defaults').map(({ path, value }) => [path, value]));
}
