import { readFile } from 'node:fs/promises';
import { writeJsonAtomic } from './files.js';
import { isObject, tryParse } from './json.js';

/**
 * Files of JSON that keep by key what was measured on this machine. One that is missing or damaged counts as empty: that only
 * costs the measurement again.
 */

/** What a file keeps under a key; undefined for nothing. */
export async function readKept(path: string, key: string): Promise<unknown> {
  return (await readAll(path))[key];
}

/** Keeps a value beside those of other keys. Throws when the file cannot be written. */
export async function keep(path: string, key: string, value: unknown): Promise<void> {
  await writeJsonAtomic(path, { ...(await readAll(path)), [key]: value });
}

/**
 * The same for a value that can be measured again: a file that cannot be written costs that. It is not told here, because
 * `hashWeights`, which keeps its file in the same folder, warns of it when the model is opened.
 */
export async function keepWhereWritable(path: string, key: string, value: unknown): Promise<void> {
  await keep(path, key, value).catch(() => undefined);
}

/** What a file keeps under a key, or else what is measured now and kept; without a path every call measures. */
export async function keptOr<T>(path: string | undefined, key: string, measure: () => Promise<T>): Promise<T> {
  if (path === undefined) return measure();
  const kept = await readKept(path, key);
  if (kept) return kept as T;
  const measured = await measure();
  await keepWhereWritable(path, key, measured);
  return measured;
}

async function readAll(path: string): Promise<Record<string, unknown>> {
  const content = await readFile(path, 'utf8').then(tryParse, () => undefined);
  return isObject(content) ? content : {};
}
