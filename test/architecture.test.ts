import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const SOURCE = resolve(import.meta.dirname, '..', 'src');

/** Folders that each folder may import from, beside itself. ARCHITECTURE.md says why. */
const LAYERS = ['core', 'native', 'tensor', 'models', 'cartridge', 'inference'];
const allBefore = (layer: string) => LAYERS.slice(0, LAYERS.indexOf(layer));
const BESIDE = ['corpus', 'chat', 'tracking', 'self-study'];
const ALLOWED: Record<string, string[]> = {
  ...Object.fromEntries(LAYERS.map((layer) => [layer, allBefore(layer)])),
  corpus: ['core'],
  chat: ['core'],
  tracking: ['core'],
  'self-study': ['core', 'corpus', 'chat'],
  inference: [...allBefore('inference'), 'chat'],
  training: [...LAYERS, ...BESIDE],
  evaluation: [...LAYERS, ...BESIDE],
  pipeline: [...LAYERS, ...BESIDE, 'training', 'evaluation'],
  serving: [...LAYERS, ...BESIDE, 'training', 'evaluation', 'pipeline'],
  cli: [...LAYERS, ...BESIDE, 'training', 'evaluation', 'pipeline', 'serving'],
};

const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  .map((file) => join(SOURCE, file));

/** Modules that a file names, type imports and `import(…)` included; relative ones as absolute paths of the TypeScript file. */
function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const names = [...text.matchAll(/(?:from\s+|import\s*\(\s*|^import\s+)'([^']+)'/gm)].map((match) => match[1]!);
  return names.map((name) => (name.startsWith('.') ? resolve(dirname(file), name).replace(/\.js$/, '.ts') : name));
}

/** The text of a file without its comments: examples in them may print. */
const codeOf = (file: string) => readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');

const layerOf = (file: string) => relative(SOURCE, file).split('/')[0]!;

test('imports between folders go one way', () => {
  const wrong = files.flatMap((file) =>
    importsOf(file)
      .filter((target) => target.startsWith(SOURCE) && dirname(file) !== SOURCE)
      .filter((target) => layerOf(target) !== layerOf(file) && !ALLOWED[layerOf(file)]?.includes(layerOf(target)))
      .map((target) => `${relative(SOURCE, file)} imports ${relative(SOURCE, target)}`),
  );
  expect(wrong).toEqual([]);
});

test('no import cycles, type imports included', () => {
  const graph = new Map(files.map((file) => [file, importsOf(file).filter((target) => target.startsWith(SOURCE))]));
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].map((f) => relative(SOURCE, f)).join(' → '));
    if (done.has(file) || path.includes(file)) return;
    for (const target of graph.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(cycles).toEqual([]);
});

test('only src/native imports koffi', () => {
  const importing = files.filter((file) => importsOf(file).includes('koffi')).map((file) => relative(SOURCE, file));
  expect(importing).toEqual(['native/koffi.ts']);
});

test('only core/environment.ts reads the environment', () => {
  const reading = files.filter((file) => /process\.env\b/.test(readFileSync(file, 'utf8'))).map((file) => relative(SOURCE, file));
  expect(reading).toEqual(['core/environment.ts']);
});

test('only src/cli prints and exits', () => {
  const printing = files
    .filter((file) => /console\.|process\.exit\b|process\.stdout/.test(codeOf(file)))
    .map((file) => relative(SOURCE, file))
    .filter((file) => !file.startsWith('cli/'));
  expect(printing).toEqual([]);
});

test('every folder of src has a rule', () => {
  const folders = readdirSync(SOURCE, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(folders.map(({ name }) => name).filter((name) => !(name in ALLOWED))).toEqual([]);
});
