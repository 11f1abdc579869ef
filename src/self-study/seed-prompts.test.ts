import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BUILT_IN_PROMPTS, fillTemplate, loadPromptSet, SEED_KINDS } from './seed-prompts.js';
import { normalizeText, TextOwners } from './text-owners.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'prompts-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

const file = {
  seed_prompts: Object.fromEntries(SEED_KINDS.map((kind) => [kind, [`Do ${kind}.`]])),
  seed_weights: { question: 5, use_case: 2, summarization: 1, structuring: 1, creative: 1 },
  system_templates: ['{text}'],
  unknown_answer: 'The text does not say.',
  no_text_answer: 'I do not know.',
};

const load = () => loadPromptSet(join(folder, 'model.gguf'));

describe('loadPromptSet', () => {
  it('reads the prompts beside a model', async () => {
    await writeFile(join(folder, 'prompts.json'), JSON.stringify(file));
    expect(await load()).toEqual({
      seedPrompts: file.seed_prompts,
      seedWeights: file.seed_weights,
      systemTemplates: ['{text}'],
      refusals: ['The text does not say.', 'I do not know.'],
    });
  });

  it('gives the built-in prompts where there are none', async () => {
    expect(await load()).toBe(BUILT_IN_PROMPTS);
  });

  it.each([
    ['is not JSON', '{', /JSON/],
    ['misses a kind', JSON.stringify({ ...file, seed_prompts: { question: ['a'] } }), /seed_prompts/],
    ['has a template without {text}', JSON.stringify({ ...file, system_templates: ['none'] }), /system_templates\.0/],
    [
      'has no weight',
      JSON.stringify({ ...file, seed_weights: Object.fromEntries(SEED_KINDS.map((kind) => [kind, 0])) }),
      /seed_weights/,
    ],
  ])('refuses a file that %s', async (_what, json, message) => {
    await writeFile(join(folder, 'prompts.json'), json);
    await expect(load()).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(message) });
  });
});

describe('the built-in prompts', () => {
  it('have several wordings of each kind and a place for the text', () => {
    for (const kind of SEED_KINDS) expect(new Set(BUILT_IN_PROMPTS.seedPrompts[kind]).size).toBeGreaterThan(2);
    for (const template of BUILT_IN_PROMPTS.systemTemplates) expect(template).toContain('{text}');
  });
});

describe('fillTemplate', () => {
  it('does not interpret the text', () => {
    expect(fillTemplate('<{text}>', "$& $1 $' {text}")).toBe("<$& $1 $' {text}>");
  });
});

describe('normalizeText', () => {
  it('folds case, white space, Unicode form and closing punctuation only', () => {
    expect(normalizeText('  Who\tis\nＡda ?! ')).toBe('who is ada');
    expect(normalizeText('Who is Ada?')).not.toBe(normalizeText('Who is Adam?'));
    expect(normalizeText('Is 1.5 < 2?')).toBe('is 1.5 < 2');
  });
});

describe('TextOwners', () => {
  it('knows who asked first, within a chunk or anywhere', () => {
    const perChunk = new TextOwners('chunk');
    expect(perChunk.claim('a', 'Why?', 0)).toBe(true);
    expect(perChunk.claim('a', 'why', 1)).toBe(false);
    expect(perChunk.claim('b', 'why', 2)).toBe(true);
    const anywhere = new TextOwners('corpus');
    expect(anywhere.claim('a', 'Why?', 0)).toBe(true);
    expect(anywhere.claim('b', 'why', 2)).toBe(false);
  });

  it('lets only the owner release a question', () => {
    const log = new TextOwners('chunk');
    log.claim('a', 'Why?', 0);
    log.release('a', 'Why?', 1);
    expect(log.claim('a', 'Why?', 1)).toBe(false);
    log.release('a', 'Why?', 0);
    expect(log.claim('a', 'Why?', 1)).toBe(true);
  });
});
