import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCartridge } from '../../src/cartridge/cartridge-file.js';
import { packageRoot } from '../../src/core/package.js';
import { CONDITIONS } from '../../src/evaluation/conditions.js';
import { type CommandOptions, runCommand } from '../support/command-line.js';

const HARBOUR = join(packageRoot, 'examples', 'corpora', 'harbour');
const MODEL = ['--model', 'pocket', '--threads', '1'];
/** Four groups are a shard: the second shard begins at conversation 65. */
// A few steps need no sure answers, but conversations enough.
const SYNTHESIS = ['--conversations', '96', '--set', 'synthesis.concurrency=16', '--set', 'synthesis.minTokenProbability=0'];
const TRAINING = ['--steps', '6', '--set', 'training.batchTokens=160'];
const BUILD = ['build', 'notes.txt', ...MODEL, ...SYNTHESIS, ...TRAINING];

const folder = mkdtempSync(join(tmpdir(), 'cartridges-commands-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Everything that is said about the one cartridge that most tests share. */
let built: Record<string, unknown>;

beforeAll(async () => {
  // The first paragraphs of a sample text, and some questions about them.
  const paragraphs = readFileSync(join(HARBOUR, 'corpus.txt'), 'utf8').split('\n\n').slice(0, 5);
  writeFileSync(join(folder, 'notes.txt'), paragraphs.join('\n\n'));
  const questions = readFileSync(join(HARBOUR, 'questions.jsonl'), 'utf8').split('\n').slice(0, 5);
  writeFileSync(join(folder, 'questions.jsonl'), questions.join('\n'));
  built = await json([...BUILD, '-o', 'notes.cartridge.safetensors']);
}, 180_000);

describe('one cartridge', () => {
  test('build tells what it made, in the promised fields', () => {
    expect(built).toEqual({
      path: 'notes.cartridge.safetensors',
      tokens: expect.any(Number),
      conversations: expect.any(Number),
      supervisedTokens: expect.any(Number),
      steps: 6,
      validationKl: expect.any(Number),
      seconds: { synthesize: expect.any(Number), train: expect.any(Number), total: expect.any(Number) },
    });
    expect(built['tokens']).toBeGreaterThanOrEqual(16);
    expect(built['conversations']).toBeGreaterThan(48);
    expect(built['supervisedTokens']).toBeGreaterThan(96);
  });

  test('inspect shows what it is made for and how', async () => {
    const header = await json(['inspect', 'notes.cartridge.safetensors']);
    expect(header).toMatchObject({
      path: 'notes.cartridge.safetensors',
      tokenCount: built['tokens'],
      frozenCount: 1,
      storedAs: 'f16',
      model: { architecture: 'llama', quantization: 'Q8_0' },
      receipt: { initializer: 'first-tokens', corpus: { name: 'notes.txt' }, result: { steps: 6 } },
    });
  });

  test('verify passes the equivalence gate', async () => {
    const report = await json(['verify', ...MODEL, '--cartridge', 'notes.cartridge.safetensors']);
    expect(report).toMatchObject({ passed: true, cartridgeTokens: built['tokens'] });
    expect(report['checks']).toHaveLength(2);
  });

  test('evaluate compares four conditions, in the promised fields', async () => {
    const sources = ['--cartridge', 'notes.cartridge.safetensors', '--corpus', 'notes.txt', '--questions', 'questions.jsonl'];
    const report = await json(['evaluate', ...MODEL, ...sources, '--max-tokens', '16', '--report', 'report']);
    const condition = {
      accuracy: expect.any(Number),
      exactAccuracy: expect.any(Number),
      byKind: expect.any(Object),
      loss: expect.any(Number),
      perplexity: expect.any(Number),
      kvBytes: expect.any(Number),
      promptTokens: expect.any(Number),
      timeToFirstTokenMs: expect.any(Number),
      decodeTokensPerSecond: expect.any(Number),
    };
    expect(report).toEqual({
      cartridge: { path: 'notes.cartridge.safetensors', tokens: built['tokens'] },
      corpus: { tokens: expect.any(Number) },
      questions: 5,
      seconds: expect.objectContaining({ total: expect.any(Number) }),
      conditions: Object.fromEntries(CONDITIONS.map((name) => [name, condition])),
      compression: expect.any(Number),
      abstention: {},
      general: {},
    });
    const { conditions, compression } = report as { conditions: Record<string, { kvBytes: number }>; compression: number };
    expect(conditions['truncated']?.kvBytes).toBe(conditions['cartridge']?.kvBytes);
    expect(conditions['none']?.kvBytes).toBe(0);
    expect(compression).toBeCloseTo(conditions['full']!.kvBytes / conditions['cartridge']!.kvBytes, 9);
    expect(JSON.parse(readFileSync(join(folder, 'report', 'report.json'), 'utf8'))).toEqual(report);
  });

  test('evaluate prints its result when the report cannot be written after all', async () => {
    const sources = ['--cartridge', 'notes.cartridge.safetensors', '--corpus', 'notes.txt', '--questions', 'questions.jsonl'];
    const options = ['--max-tokens', '4', '--report', 'lost', '--json'];
    const { status, stdout, stderr } = await run(['evaluate', ...MODEL, ...sources, ...options], {
      onStderr: () => {
        rmSync(join(folder, 'lost'), { recursive: true, force: true });
        writeFileSync(join(folder, 'lost'), '');
      },
    });
    expect(JSON.parse(stdout)).toMatchObject({ questions: 5 });
    expect(stderr).toMatch(/^error: EEXIST: .*lost/m);
    expect(status).toBe(3);
  });

  test('evaluate measures loss and perplexity on conversations of another seed', async () => {
    await json(['synthesize', 'notes.txt', '-o', 'held-out', ...MODEL, '--conversations', '8', '--seed', '7']);
    const sources = ['--cartridge', 'notes.cartridge.safetensors', '--corpus', 'notes.txt', '--conversations', 'held-out'];
    const report = (await json(['evaluate', ...MODEL, ...sources])) as {
      conversations: number;
      conditions: Record<string, { accuracy: null; conversations: { loss: number; perplexity: number } }>;
    };
    expect(report.conversations).toBeGreaterThan(0);
    const { none, full } = report.conditions as Required<typeof report.conditions>;
    expect(full!.conversations.loss).toBeLessThan(none!.conversations.loss);
    for (const condition of Object.values(report.conditions)) {
      expect(condition.accuracy).toBeNull();
      expect(condition.conversations.perplexity).toBeCloseTo(Math.exp(condition.conversations.loss), 6);
    }
  });

  test.each([
    ['evaluate', /^evaluate: /m, /^stopping; nothing is kept, the same command starts over\./m],
    ['synthesize', /^synthesize: /m, /^stopping; the same command continues with what is finished\./m],
  ])('%s says what Ctrl-C leaves', async (name, started, hint) => {
    const sources = ['--cartridge', 'notes.cartridge.safetensors', '--corpus', 'notes.txt', '--questions', 'questions.jsonl'];
    const call = name === 'evaluate' ? [name, ...sources] : [name, 'notes.txt', '-o', 'stopped'];
    const stopped = await interrupted([...call, ...MODEL], ({ stderr }) => started.test(stderr));
    expect(stopped).toMatchObject({ status: 130, stdout: '', stderr: expect.stringMatching(hint) });
  });

  test('chat answers one question', async () => {
    const question = 'What colour is the flag of the Pouclal?';
    const cartridge = ['--cartridge', 'notes.cartridge.safetensors', '--max-tokens', '16'];
    const answered = await json(['chat', ...MODEL, ...cartridge, question]);
    expect(answered).toEqual({ question, answer: expect.stringMatching(/\w/) });
  });
});

test('a closed stderr ends no work', async () => {
  const synthesize = ['synthesize', 'notes.txt', '-o', 'unheard', ...MODEL, '--conversations', '8', '--json'];
  const { status, stdout } = await run(synthesize, { onStart: (child) => child.stderr?.destroy() });
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ attempted: 8 });
});

test('a cache folder that cannot be made costs warnings, never a training', async () => {
  const environment = { CARTRIDGES_CACHE: '/dev/null/x' };
  const train = ['build', 'notes.txt', '-o', 'uncached.safetensors', ...MODEL, '--conversations', '8', '--steps', '1'];
  const { status, stderr } = await run(train, { environment });
  expect(stderr).toMatch(/^load: warning: cannot remember the model's hash/m);
  expect(status).toBe(0);
});

describe('the same again', () => {
  test('synthesize gives a dataset that is equal byte for byte', async () => {
    const report = await json(['synthesize', 'notes.txt', '-o', 'dataset', ...MODEL, ...SYNTHESIS]);
    expect(report).toMatchObject({ attempted: 96, shards: 2, resumedAt: 0 });
    const first = join(folder, runFolder('notes'), 'dataset');
    const files = readdirSync(first);
    expect(files.sort()).toEqual(['.cartridges', 'manifest.json', 'shard-00000.parquet', 'shard-00001.parquet']);
    for (const file of files) expect(readFileSync(join(folder, 'dataset', file))).toEqual(readFileSync(join(first, file)));
  });

  test('train --resume continues after Ctrl-C and ends with the same rows', async () => {
    const train = ['train', 'dataset', '--corpus', 'notes.txt', '-o', 'trained.safetensors', ...MODEL, ...TRAINING];
    const stopped = await interrupted(train, ({ stderr }) => /^train: \d+ % {2}\d\/6 /m.test(stderr));
    expect(stopped).toMatchObject({ status: 130, stdout: '' });
    expect(stopped.stderr).toMatch(/^stopping; the same command with --resume continues\./m);

    const { stderr, ...resumed } = await run([...train, '--resume', '--json']);
    expect(stderr).toMatch(/^train: continuing after step [1-5]$/m);
    expect(JSON.parse(resumed.stdout)).toMatchObject({ steps: 6, validationKl: built['validationKl'] });
    await expectEqualRows('trained.safetensors');
  });

  test('build continues after each Ctrl-C and ends with the same rows', async () => {
    const build = [...BUILD, '-o', 'again.safetensors'];
    const firstShard = () => runFolder('again') !== '' && manifestOf('again').includes('shard-00000.parquet');
    const inSynthesis = await interrupted(build, firstShard);
    expect(inSynthesis).toMatchObject({ status: 130, stdout: '' });
    expect(inSynthesis.stderr).toMatch(/^stopping; the same command continues with what is finished\./m);
    expect(inSynthesis.stderr).not.toMatch(/^train:/m);

    const inTraining = await interrupted(build, ({ stderr }) => /^train: \d+ % {2}\d\/6 /m.test(stderr));
    expect(inTraining).toMatchObject({ status: 130, stdout: '' });
    expect(inTraining.stderr).toMatch(/^synthesize: resuming at conversation 64 of 96$/m);

    const { status, stderr } = await run([...build, '--json']);
    expect(status).toBe(0);
    expect(stderr).toMatch(/^train: continuing after step [1-5]$/m);
    await expectEqualRows('again.safetensors');
  });
});

test.each([
  ['chosen by itself', []],
  ['asked for', ['--conversations', '5000', '--steps', '5000']],
])('--minutes bounds the whole build, its size %s', async (_how, size) => {
  const [minutes, slackSeconds] = [0.15, 10];
  const started = performance.now();
  const bound = ['--minutes', String(minutes)];
  const result = await json(['build', 'notes.txt', '-o', 'bounded.safetensors', ...MODEL, ...bound, ...size]);
  const elapsedSeconds = (performance.now() - started) / 1000;
  expect(result['conversations']).toBeLessThan(5000);
  expect(result['steps']).toBeGreaterThan(0);
  expect(elapsedSeconds).toBeLessThan(minutes * 60 + slackSeconds);
});

const run = (commandLine: string[], options: Partial<CommandOptions> = {}) => runCommand(commandLine, { folder, ...options });

/** What a command prints with `--json`: one object and nothing else. */
async function json(commandLine: string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await run([...commandLine, '--json']);
  expect(stderr).not.toContain('error:');
  expect(status).toBe(0);
  return JSON.parse(stdout);
}

/** Sends Ctrl-C once, as soon as `when` holds. */
async function interrupted(commandLine: string[], when: (seen: { stderr: string }) => boolean) {
  const POLL_MS = 20;
  let poll: NodeJS.Timeout | undefined;
  let stderr = '';
  const result = await run(commandLine, {
    onStart: (child) => {
      poll = setInterval(() => {
        if (!when({ stderr })) return;
        clearInterval(poll);
        child.kill('SIGINT');
      }, POLL_MS);
    },
    onStderr: (text) => {
      stderr = text;
    },
  });
  clearInterval(poll);
  return result;
}

/** The run folder of a build, relative to the test's; empty when there is none. */
function runFolder(name: string): string {
  const found = readdirSync(join(folder, 'runs')).find((entry) => entry.startsWith(`${name}.`) || entry.startsWith(`${name}-`));
  return found === undefined ? '' : join('runs', found);
}

function manifestOf(name: string): string {
  try {
    return readFileSync(join(folder, runFolder(name), 'dataset', 'manifest.json'), 'utf8');
  } catch {
    return '';
  }
}

async function expectEqualRows(path: string): Promise<void> {
  const [expected, found] = await Promise.all(
    ['notes.cartridge.safetensors', path].map((file) => readCartridge(join(folder, file))),
  );
  expect(found?.keys).toEqual(expected?.keys);
  expect(found?.values).toEqual(expected?.values);
}
