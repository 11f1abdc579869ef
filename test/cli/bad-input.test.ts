import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeCartridge } from '../../src/cartridge/cartridge-file.js';
import { packageRoot } from '../../src/core/package.js';
import { Random } from '../../src/core/random.js';
import { goldenCartridge } from '../support/cartridges.js';
import { type CommandResult, runCommand } from '../support/command-line.js';
import { readGolden } from '../support/golden.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-bad-input-'));
const disk = mountSmallDisk();
afterAll(() => {
  if (disk !== undefined) spawnSync('umount', [disk]);
  rmSync(folder, { recursive: true });
});

const golden = readGolden('tiny-llama');
const MODEL = ['--model', 'pocket', '--threads', '1'];
const BUILD = ['build', 'notes.txt', '-o', 'notes.safetensors'];
const SMALL = ['--conversations', '8', '--steps', '2', '--tokens', '32'];

beforeAll(async () => {
  const write = (name: string, content: string | Uint8Array) => writeFileSync(join(folder, name), content);
  copyFileSync(join(packageRoot, 'examples', 'corpora', 'harbour', 'corpus.txt'), join(folder, 'notes.txt'));
  write('empty.txt', '');
  write('blank.txt', ' \n\n\t\n');
  const noise = new Random(1);
  const binary = Uint8Array.from({ length: 4096 }, () => noise.integer(256));
  write('binary.dat', binary);
  mkdirSync(join(folder, 'photos'));
  mkdirSync(join(folder, 'folder.safetensors'));
  write(join('photos', 'one.jpg'), binary);

  const model = readFileSync(golden.path);
  write('empty.gguf', '');
  write('half-header.gguf', model.subarray(0, 2_000));
  write('half-weights.gguf', model.subarray(0, model.length - 1_000));
  write('mamba.gguf', withArchitecture(model, 'mamba'));

  const cartridge = goldenCartridge(golden, 'cartridge', golden.cartridge.rows);
  await writeCartridge(join(folder, 'tiny.safetensors'), cartridge, { dtype: 'f32' });
  const rows = readFileSync(join(folder, 'tiny.safetensors'));
  write('short.safetensors', rows.subarray(0, rows.length - 100));
  rows[rows.length - 50]! ^= 1;
  write('flipped.safetensors', rows);

  write('good.jsonl', '{"question": "Who?", "answer": "Ada"}\n');
  write('bad-line.jsonl', '{"question": "Who?", "answer": "Ada"}\n{"question": "When?"\n');
  write('no-answer.jsonl', '{"question": "Who?", "answer": "Ada"}\n{"question": "When?"}\n');
});

interface Refusal {
  status: number;
  error: RegExp;
  hint: RegExp;
}

describe('refuses in one line', () => {
  test.each<[string, string[], Refusal]>([
    [
      'a missing model',
      [...BUILD, '--model', 'none.gguf'],
      { status: 3, error: /model none\.gguf does not exist/, hint: /cartridges models pull/ },
    ],
    [
      'a model that was not fetched',
      [...BUILD, '--model', 'org/none'],
      { status: 3, error: /model org\/none is not on this machine/, hint: /^cartridges models pull org\/none$/ },
    ],
    ['no model', BUILD, { status: 2, error: /no model is named/, hint: /--model/ }],
    [
      'an empty model',
      [...BUILD, '--model', 'empty.gguf'],
      { status: 4, error: /empty\.gguf .* ends inside its header/, hint: /download it again/ },
    ],
    [
      'a model cut in its header',
      [...BUILD, '--model', 'half-header.gguf'],
      { status: 4, error: /half-header\.gguf is not a usable GGUF model/, hint: /download it again/ },
    ],
    [
      'a model cut in its weights',
      [...BUILD, '--model', 'half-weights.gguf'],
      { status: 4, error: /half-weights\.gguf .* runs beyond the end of the file/, hint: /download it again/ },
    ],
    [
      'a text as model',
      [...BUILD, '--model', 'notes.txt'],
      { status: 4, error: /notes\.txt .* does not begin with the letters GGUF/, hint: /something else/ },
    ],
    [
      'an architecture that is not supported',
      [...BUILD, '--model', 'mamba.gguf'],
      { status: 4, error: /mamba\.gguf is of architecture mamba/, hint: /supported: llama, qwen2, qwen3/ },
    ],
    [
      'a missing text',
      ['build', 'none.txt', '-o', 'a.safetensors', ...MODEL],
      { status: 3, error: /none\.txt does not exist/, hint: /check the path/ },
    ],
    [
      'an empty text',
      ['build', 'empty.txt', '-o', 'a.safetensors', ...MODEL],
      { status: 3, error: /empty\.txt has no text/, hint: /some text/ },
    ],
    [
      'a blank text',
      ['build', 'blank.txt', '-o', 'a.safetensors', ...MODEL],
      { status: 3, error: /blank\.txt has no text/, hint: /some text/ },
    ],
    [
      'a binary file as text',
      ['build', 'binary.dat', '-o', 'a.safetensors', ...MODEL],
      { status: 3, error: /binary\.dat is not UTF-8 text/, hint: /convert/ },
    ],
    [
      'a folder without text',
      ['build', 'photos', '-o', 'a.safetensors', ...MODEL],
      { status: 3, error: /photos has no file with text/, hint: /\.txt/ },
    ],
    [
      'a cartridge larger than the context',
      [...BUILD, ...MODEL, '--tokens', '5000'],
      { status: 7, error: /a cartridge of 5000 tokens leaves no room .* in a context of 2048/, hint: /--tokens 1792 or fewer/ },
    ],
    [
      'a cartridge that leaves no room for a question and an answer',
      [...BUILD, ...MODEL, '--tokens', '1793'],
      { status: 7, error: /a cartridge of 1793 tokens leaves no room .* in a context of 2048/, hint: /--tokens 1792 or fewer/ },
    ],
    [
      "a served cartridge's text that is missing, before the model is loaded",
      ['serve', '--model', 'none.gguf', '--cartridge', 'a=a.safetensors', '--corpus', 'a=none.txt'],
      { status: 3, error: /none\.txt does not exist/, hint: /check the path/ },
    ],
    [
      'a text for a cartridge that is not served',
      ['serve', ...MODEL, '--cartridge', 'a=a.safetensors', '--corpus', 'b=notes.txt'],
      { status: 2, error: /a text is given for b, and no cartridge has that name/, hint: /--cartridge b=FILE/ },
    ],
    [
      'an output that cannot be written',
      ['build', 'notes.txt', '-o', 'notes.txt/a.safetensors', ...MODEL],
      { status: 3, error: /^EEXIST: .*notes\.txt/, hint: /another path/ },
    ],
    [
      'a folder as output',
      ['build', 'notes.txt', '-o', 'folder.safetensors', ...MODEL],
      { status: 2, error: /^folder\.safetensors is there and is no regular file$/, hint: /another name/ },
    ],
    [
      'a report that cannot be written, before the cartridge is read',
      [...evaluateWith('good.jsonl'), '--report', 'notes.txt/report'],
      { status: 3, error: /^ENOTDIR: .*notes\.txt/, hint: /another path/ },
    ],
    [
      'a name that is too long',
      ['inspect', `${'x'.repeat(300)}.safetensors`],
      { status: 3, error: /^ENAMETOOLONG: /, hint: /another path/ },
    ],
    [
      'a cartridge of another model',
      ['chat', ...MODEL, '--cartridge', 'tiny.safetensors', 'Who?'],
      {
        status: 5,
        error: /another model: .*\(layers\) is 2, the loaded model has 5/,
        hint: /load the model that it was trained with/,
      },
    ],
    [
      'a cartridge that was cut',
      ['chat', ...MODEL, '--cartridge', 'short.safetensors', 'Who?'],
      { status: 5, error: /short\.safetensors is not a usable/, hint: /get it again/ },
    ],
    [
      'a cartridge with a bit flipped',
      ['verify', ...MODEL, '--cartridge', 'flipped.safetensors'],
      { status: 5, error: /flipped\.safetensors .* not those that were written/, hint: /get it again/ },
    ],
    [
      'a missing cartridge',
      ['inspect', 'none.safetensors'],
      { status: 3, error: /none\.safetensors does not exist/, hint: /check the path/ },
    ],
    [
      'a model as cartridge',
      ['inspect', 'half-weights.gguf'],
      { status: 5, error: /half-weights\.gguf is not/, hint: /get it again/ },
    ],
    [
      'an unknown option',
      [...BUILD, ...MODEL, '--tokns', '64'],
      { status: 2, error: /unknown option '--tokns'/, hint: /did you mean --tokens\?/ },
    ],
    [
      'an unknown setting',
      [...BUILD, ...MODEL, '--set', 'training.stps=4'],
      { status: 2, error: /no setting training\.stps/, hint: /did you mean training\.steps\?/ },
    ],
    [
      'a setting with a wrong value',
      [...BUILD, ...MODEL, '--set', 'training.steps=some'],
      { status: 2, error: /training\.steps cannot be "some"/, hint: /optimiser steps/ },
    ],
    ['an unknown command', ['bild', 'notes.txt'], { status: 2, error: /unknown command 'bild'/, hint: /did you mean build\?/ }],
    [
      'an unknown device',
      ['chat', ...MODEL, '--device', 'tape', 'Who?'],
      { status: 2, error: /no device tape/, hint: /devices here: CPU/ },
    ],
    [
      'a questions file with a broken line',
      evaluateWith('bad-line.jsonl'),
      { status: 3, error: /bad-line\.jsonl, line 2: is not JSON/, hint: /"answer"/ },
    ],
    [
      'a question without an answer',
      evaluateWith('no-answer.jsonl'),
      { status: 3, error: /no-answer\.jsonl, line 2: answer is missing/, hint: /"answer"/ },
    ],
    ['missing questions', evaluateWith('none.jsonl'), { status: 3, error: /none\.jsonl does not exist/, hint: /check the path/ }],
    [
      'a folder that is no dataset',
      ['train', 'photos', '--corpus', 'notes.txt', '-o', 'a.safetensors', ...MODEL],
      { status: 3, error: /photos has no manifest\.json/, hint: /synthesis/ },
    ],
  ])('%s', async (_what, commandLine, refusal) => {
    expectRefusal(await run(commandLine), refusal);
    expect(readdirSync(folder).filter((name) => name === 'runs' || name.startsWith('a.') || name.startsWith('.'))).toEqual([]);
  });
});

describe.skipIf(disk === undefined)(
  `a full disk${disk === undefined ? ' (skipped: a small one cannot be mounted here)' : ''}`,
  () => {
    const full = { status: 7, error: /no space left on the disk while writing \S*disk\S+$/, hint: /run the same command again/ };

    test('for the dataset: the same command finishes once there is space', async () => {
      const synthesize = ['synthesize', 'notes.txt', '-o', join('disk', 'dataset'), ...MODEL, '--conversations', '8'];
      const free = fillDisk(disk!);
      expectRefusal(await run(synthesize), full);
      free();
      const { status, stdout } = await run([...synthesize, '--json']);
      expect(status).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ attempted: 8 });
    });

    test('for the cartridge: what was trained is kept until it can be written', async () => {
      const build = ['build', 'notes.txt', '-o', join('disk', 'full.safetensors'), ...MODEL, ...SMALL];
      const free = fillDisk(disk!);
      expectRefusal(await run(build), full);
      expect(existsSync(join(disk!, 'full.safetensors'))).toBe(false);
      free();
      const { status, stderr } = await run(build);
      expect(status).toBe(0);
      expect(stderr).toMatch(/^train: continuing after step 2$/m);
      expect(existsSync(join(disk!, 'full.safetensors'))).toBe(true);
    });
  },
);

function evaluateWith(questions: string): string[] {
  return ['evaluate', ...MODEL, '--cartridge', 'tiny.safetensors', '--corpus', 'notes.txt', '--questions', questions];
}

function run(commandLine: string[]): Promise<CommandResult> {
  return runCommand(commandLine, { folder });
}

/** One line that says what is wrong and one that says what to do, after whatever progress there was; nothing on stdout. */
function expectRefusal({ status, stdout, stderr }: CommandResult, refusal: Refusal): void {
  const lines = stderr.trimEnd().split('\n');
  const error = lines.filter((line) => line.startsWith('error: ')).map((line) => line.slice('error: '.length));
  const hint = lines.filter((line) => line.startsWith('  hint: ')).map((line) => line.slice('  hint: '.length));
  expect(error).toEqual([expect.stringMatching(refusal.error)]);
  expect(hint).toEqual([expect.stringMatching(refusal.hint)]);
  expect(lines.slice(-2).map((line) => line.split(':')[0])).toEqual(['error', '  hint']);
  expect(stderr).not.toMatch(/^ {4}at /m);
  expect(stdout).toBe('');
  expect(status).toBe(refusal.status);
}

/** The bytes of a GGUF with another `general.architecture` of the same length. */
function withArchitecture(model: Buffer, architecture: string): Buffer {
  const changed = Buffer.from(model);
  const at = changed.indexOf(golden.model.architecture, changed.indexOf('general.architecture'));
  changed.write(architecture, at, golden.model.architecture.length, 'ascii');
  return changed;
}

/** A file system of 256 KiB in the test's folder, where the rights for it are there. */
function mountSmallDisk(): string | undefined {
  const path = join(folder, 'disk');
  mkdirSync(path);
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', path]);
  return status === 0 ? path : undefined;
}

/** Leaves no byte free; what is returned frees them again. */
function fillDisk(path: string): () => void {
  const filler = join(path, 'filler');
  expect(() => writeFileSync(filler, Buffer.alloc(1 << 20))).toThrow('ENOSPC');
  return () => rmSync(filler);
}
