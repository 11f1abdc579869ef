import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { writeCartridge } from '../../src/cartridge/cartridge-file.js';
import { ModelSession } from '../../src/pipeline/model-session.js';
import { type CommandResult, runCommand } from '../support/command-line.js';
import { chunksOf, OpenAiStandIn, sendEvents, sendJson } from '../support/openai-stand-in.js';
import { textCartridge } from '../support/text-cartridge.js';

const KEY = 'sk-secret-key';
const QUESTION = 'What colour is the flag of the Pouclal?';
const TEXTS = { green: 'The flag of the Pouclal is green.', red: 'The flag of the Pouclal is red.' };
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cartridges-chat-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const chat = (flags: readonly string[], lines: readonly string[] = [], environment = {}): Promise<CommandResult> =>
  runCommand(['chat', ...flags], { folder, environment, input: lines.map((line) => `${line}\n`).join('') });

describe('with the engine', () => {
  const MODEL = ['--model', 'pocket', '--threads', '1'];

  beforeAll(async () => {
    const session = await ModelSession.open({ model: 'pocket', threads: 1 });
    for (const [name, text] of Object.entries(TEXTS)) {
      await writeCartridge(join(folder, `${name}.safetensors`), await textCartridge(session, text), { dtype: 'f16' });
    }
    await session.dispose();
    writeFileSync(join(folder, 'text.txt'), TEXTS.red);
  });

  test('a conversation switches cartridges and compares', async () => {
    const { status, stdout, stderr } = await chat(
      [...MODEL, '--cartridge', 'one=green.safetensors', '--cartridge', 'two=red.safetensors', '--corpus', 'text.txt'],
      [
        QUESTION,
        '/clear',
        '/cartridge two',
        QUESTION,
        '/undo',
        '/cartridge green.safetensors',
        QUESTION,
        '/cartridge',
        `/compare ${QUESTION}`,
      ],
    );
    expect(status).toBe(0);
    const answers = [...stdout.matchAll(/is (\w+)\.$/gm)].map(([, colour]) => colour);
    expect(answers).toEqual(['green', 'red', 'green', 'green', 'red']);
    expect(stdout).toMatch(/── nothing\n(?!.*(green|red))/);
    expect(stdout.match(/first token \d+ ms, \d+ tokens in /g)).toHaveLength(3);
    expect(stderr).toContain('now behind two');
    expect(stderr).toMatch(/ {2}one\n {2}two\n {2}none/);
  });

  test('one question gives one JSON object', async () => {
    const { status, stdout } = await chat([...MODEL, '--cartridge', 'red.safetensors', '--json', QUESTION]);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ question: QUESTION, answer: TEXTS.red });
  });

  test('a mistake ends its turn, not the conversation', async () => {
    const { status, stdout, stderr } = await chat(
      [...MODEL, '--cartridge', 'green.safetensors'],
      ['/cartridge none.safetensors', '/compare', '/compere', QUESTION, '/quit', 'Who?'],
    );
    expect(status).toBe(0);
    expect(stdout).toBe(`${TEXTS.green}\n`);
    expect(stderr).toMatch(/^error: none\.safetensors does not exist$/m);
    expect(stderr).toMatch(/^error: \/compare needs a question$/m);
    expect(stderr).toMatch(/^there is no \/compere; \/help/m);
  });
});

describe('with a server', () => {
  let standIn: OpenAiStandIn;

  beforeAll(async () => {
    standIn = await OpenAiStandIn.start();
  });
  afterEach(() => {
    standIn.chat = (request, response) => standIn.answer(request, response);
    standIn.requests.length = 0;
  });
  afterAll(() => standIn.stop());

  const talk = (flags: readonly string[], lines?: readonly string[]) =>
    chat(['--server', standIn.url, ...flags], lines, { CARTRIDGES_API_KEY: KEY });

  test('a conversation keeps its history', async () => {
    const { status, stdout, stderr } = await talk(
      ['--cartridge', 'notes'],
      ['Who?', 'When?', '/undo', 'Why?', '/cartridge base:letters', 'Where?', '/cartridge none', '/clear', 'How?', '/cartridge'],
    );
    expect(status).toBe(0);
    expect(stdout.split('\n')).toEqual([
      'base:notes read u: Who?',
      'base:notes read uau: When?',
      'base:notes read uau: Why?',
      'base:letters read uauau: Where?',
      'base read u: How?',
      '',
    ]);
    expect(stderr).toMatch(/ {2}notes\n {2}letters\n\* none/);
    expect(standIn.requests.every(({ authorization }) => authorization === `Bearer ${KEY}`)).toBe(true);
    expect(stdout + stderr).not.toContain(KEY);
  });

  test('one question', async () => {
    const { stdout } = await talk(['--cartridge', 'letters', '--max-tokens', '7', '--json', 'Who?']);
    expect(JSON.parse(stdout)).toEqual({ question: 'Who?', answer: 'base:letters read u: Who?' });
    expect(standIn.requests.at(-1)?.body).toMatchObject({ max_tokens: 7, temperature: 0 });
  });

  test('what it says cannot control the terminal', async () => {
    standIn.chat = (_request, response) =>
      sendEvents(response, chunksOf(['\u001b]0;title\u0007', 'safe\r\n\ttext', '\u009b2J', '\u001b', '[31mred']));
    const { stdout } = await talk([], ['Who?']);
    expect(stdout).toBe('�]0;title�safe\n\ttext�2J�[31mred\n');
    standIn.chat = (_request, response) => sendJson(response, 400, { error: { message: 'no\u001b[2J\nwhat', type: 'x' } });
    const { stderr } = await talk([], ['Who?']);
    expect(stderr).toMatch(/^error: .* answered 400: no�\[2J what$/m);
  });

  test('a question that is refused ends with the status of its error', async () => {
    standIn.chat = (_request, response) => sendJson(response, 401, { error: { message: 'not so', type: 'x' } });
    const answered = await talk(['Who?']);
    expect(answered).toMatchObject({ status: 11, stdout: '' });
    expect(answered.stderr).toMatch(/^error: .*not so$/m);
  });

  test.each([
    ['an unknown cartridge', ['--cartridge', 'nothing', 'Who?'], 3, /lists no cartridge nothing/],
    ['two cartridges', ['--cartridge', 'notes', '--cartridge', 'letters', 'Who?'], 2, /more than one --cartridge/],
    ['a text that is not there', ['--corpus', 'none.txt'], 3, /none\.txt does not exist/],
    ['a text for one question', ['--corpus', 'none.txt', 'Who?'], 2, /--corpus is for \/compare/],
    ['JSON of a conversation', ['--json'], 2, /--json prints the answer to one question/],
  ])('%s is refused', async (_what, flags, status, message) => {
    const answered = await talk(flags);
    expect(answered.status).toBe(status);
    expect(answered.stderr).toMatch(message);
  });
});
