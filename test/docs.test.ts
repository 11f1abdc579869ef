import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { createProgram } from '../src/cli/program.js';
import { CartridgesError, type ErrorCode } from '../src/core/errors.js';
import { packageRoot } from '../src/core/package.js';
import { DEFAULT_BATCH_TOKENS, defaultTokenCount, planSynthesis, planTraining, stepsOf } from '../src/pipeline/plan.js';
import { describeSettings, resolveSettings } from '../src/pipeline/resolve-settings.js';

/** The documentation must say what the code does: settings, errors, commands, examples and links are compared with it. */

const read = (path: string) => readFileSync(join(packageRoot, path), 'utf8');
const pages = ['.', 'docs', 'examples', 'bench', 'models', 'models/pocket', 'test/golden'].flatMap((folder) =>
  existsSync(join(packageRoot, folder))
    ? readdirSync(join(packageRoot, folder)).flatMap((name) => (name.endsWith('.md') ? join(folder, name) : []))
    : [],
);

/** Cells of the table under a header that begins with `column`, code marks left out. */
function tableAfter(path: string, column: string): string[][] {
  const lines = read(path).split('\n');
  const start = lines.findIndex((line) => line.replace(/ +/g, ' ').startsWith(`| ${column} |`)) + 2;
  expect(start, `${path} has no table of ${column}`).toBeGreaterThan(1);
  const length = lines.slice(start).findIndex((line) => !line.startsWith('|'));
  const rows = lines.slice(start, length < 0 ? undefined : start + length);
  return rows.map((row) => row.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/^`([^`]*)`$/, '$1')));
}

/** Blocks of code in one of `languages`. */
function codeBlocks(path: string, languages: readonly string[]): string[] {
  const blocks = read(path).matchAll(/^```(\w+)\n(.*?)^```$/gms);
  return [...blocks].filter(([, language]) => languages.includes(language!)).map(([, , code]) => code!);
}

test('docs/settings.md has every setting with its default, and no other', () => {
  const documented = tableAfter('docs/settings.md', 'setting').map(([, name, value]) => [name, value]);
  expect(documented).toEqual(describeSettings().map(({ path, default: value }) => [path, String(value ?? '–')]));
});

test('docs/settings.md says what is chosen when nothing is set', () => {
  const settings = resolveSettings();
  for (const [, tokens, rows, conversations] of tableAfter('docs/settings.md', 'tokens of the text')) {
    const planned = [defaultTokenCount(Number(tokens)), planSynthesis(Number(tokens), settings, {}).conversations];
    expect([tokens, Number(rows), Number(conversations)]).toEqual([tokens, ...planned]);
  }
  for (const [, tokens, steps] of tableAfter('docs/settings.md', 'supervised tokens')) {
    expect([tokens, Number(steps)]).toEqual([tokens, stepsOf(planTraining(Number(tokens), settings, {}), DEFAULT_BATCH_TOKENS)]);
  }
});

test('docs/errors.md has every code with its exit status, and no other', () => {
  const codes = [...read('src/core/errors.ts').matchAll(/^ {2}([A-Z_]+): \d+,$/gm)].map((match) => match[1] as ErrorCode);
  expect(codes).toContain('INTERNAL');
  const documented = tableAfter('docs/errors.md', 'code').map(([, code, status]) => [code, Number(status)]);
  expect(documented).toEqual(codes.map((code) => [code, new CartridgesError(code, '').exitStatus]));
});

test('relative links lead to files and headings that exist', () => {
  const broken = pages.flatMap((page) =>
    [...read(page).matchAll(/\]\(([^)\s]+)\)/g)]
      .map((match) => match[1]!)
      .filter((link) => !/^[a-z]+:/.test(link) && !leadsSomewhere(page, link))
      .map((link) => `${page}: ${link}`),
  );
  expect(broken).toEqual([]);
});

function leadsSomewhere(page: string, link: string): boolean {
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? join(packageRoot, page) : resolve(packageRoot, dirname(page), path);
  if (!existsSync(target)) return false;
  return anchor === undefined || (statSync(target).isFile() && anchorsOf(relative(packageRoot, target)).includes(anchor));
}

/** Anchors of headings as GitHub makes them. */
function anchorsOf(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test('commands and flags in the pages exist', () => {
  const silent = { write: () => true };
  const program = createProgram({ stdout: silent, stderr: silent });
  const calls = pages.flatMap(
    (page) =>
      codeBlocks(page, ['sh'])
        .join('\n')
        .match(/^npx cartridges .*$/gm) ?? [],
  );
  expect(calls.length).toBeGreaterThan(5);
  const unknown = calls.filter((call) => !isKnownCall(program, call.split(/\s+/).slice(2)));
  expect(unknown).toEqual([]);
});

interface CommandLike {
  name(): string;
  commands: readonly CommandLike[];
  options: readonly { long?: string | undefined; short?: string | undefined }[];
}

function isKnownCall(command: CommandLike, [word, ...rest]: string[]): boolean {
  const inner = command.commands.find((candidate) => candidate.name() === word);
  if (inner) return isKnownCall(inner, rest);
  if (command.commands.length > 0) return false;
  const flags = [word ?? '', ...rest].filter((text) => /^-/.test(text));
  return flags.every((flag) => command.options.some(({ long, short }) => flag === long || flag === short));
}

test('scripts in the pages exist', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const named = pages.flatMap((page) => [...read(page).matchAll(/npm run (?:--silent )?([\w:]+)/g)].map((match) => match[1]!));
  expect([...new Set(named)].filter((name) => !(name in scripts))).toEqual([]);
});

test('TypeScript in README and docs is part of a program in examples', () => {
  const programs = readdirSync(join(packageRoot, 'examples')).flatMap((name) =>
    name.endsWith('.ts') ? read(`examples/${name}`) : [],
  );
  const known = programs.map((program) => program.replaceAll(/from '\.\.\/src\/[^']*'/g, "from 'cartridges'").split('\n'));
  const blocks = ['README.md', ...pages.filter((page) => page.startsWith('docs/'))].flatMap((page) => codeBlocks(page, ['ts']));
  expect(blocks.length).toBeGreaterThan(1);
  const strange = blocks.filter((block) => !known.some((lines) => isSubsequence(block.trimEnd().split('\n'), lines)));
  expect(strange).toEqual([]);
});

function isSubsequence(part: readonly string[], whole: readonly string[]): boolean {
  let at = 0;
  for (const line of whole) if (line === part[at]) at++;
  return at === part.length;
}
