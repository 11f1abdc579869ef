import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { chunksOf, eventText, OpenAiStandIn } from '../../../test/support/openai-stand-in.js';
import { OpenAiServer } from '../../chat/openai-server.js';
import { ChatSession } from '../../pipeline/chat-session.js';
import { ServerChatBackend } from '../../pipeline/server-chat-backend.js';
import { Output } from '../output.js';
import { Conversation } from './conversation.js';

const CTRL_C = '\u0003';
const ARROW_UP = '\u001b[A';
let standIn: OpenAiStandIn;
let input: PassThrough;
let shown: { stdout: string; stderr: string };

beforeEach(async () => {
  standIn = await OpenAiStandIn.start();
  input = new PassThrough();
  shown = { stdout: '', stderr: '' };
});
afterEach(() => standIn.stop());

/** A conversation at a terminal whose keys are what is written to `input`. */
async function start(corpusText?: string): Promise<{ ended: Promise<void>; stop: AbortController }> {
  const terminal = {
    stdout: { write: (text: string) => (shown.stdout += text) },
    stderr: { write: (text: string) => (shown.stderr += text) },
  };
  const chat = new ChatSession({ backend: await ServerChatBackend.connect(new OpenAiServer({ url: standIn.url })) });
  const lines = createInterface({ input, output: new PassThrough().resume(), terminal: true });
  const stop = new AbortController();
  const conversation = new Conversation({
    chat,
    lines,
    output: new Output(terminal, false),
    terminal,
    corpusText,
    signal: stop.signal,
  });
  return { ended: conversation.run(), stop };
}

/** Answers nothing until the request is over; resolves when there is one. */
function hangOnce(): Promise<void> {
  return new Promise((resolve) => {
    standIn.chat = (_request, response) => {
      response.writeHead(200).write(eventText(chunksOf(['Mara ']).slice(0, 2)));
      standIn.chat = (request, next) => standIn.answer(request, next);
      resolve();
    };
  });
}

it('breaks the running answer off with Ctrl-C, and goes on', async () => {
  const asked = hangOnce();
  const { ended } = await start();
  input.write('Who?\r');
  await asked;
  await expect.poll(() => shown.stdout).toContain('Mara ');
  input.write(CTRL_C);
  await expect.poll(() => shown.stderr).toContain('broken off; nothing of it is kept');
  input.write('And now?\r');
  await expect.poll(() => shown.stdout).toContain('base read u: And now?');
  input.write('/quit\r');
  await ended;
});

it('ends with a second Ctrl-C', async () => {
  const asked = hangOnce();
  const { ended } = await start();
  input.write('Who?\r');
  await asked;
  input.write(CTRL_C);
  input.write(CTRL_C);
  await ended;
});

it('asks before it ends with Ctrl-C when nothing runs', async () => {
  const { ended } = await start();
  input.write(CTRL_C);
  await expect.poll(() => shown.stderr).toContain('Ctrl-C again');
  input.write('Who?\r');
  await expect.poll(() => shown.stdout).toContain('base read u: Who?');
  input.write(CTRL_C);
  input.write(CTRL_C);
  await ended;
});

it('ends with an error when the whole command is stopped in the middle of an answer', async () => {
  const asked = hangOnce();
  const { ended, stop } = await start();
  input.write('Who?\r');
  await asked;
  stop.abort();
  await expect(ended).rejects.toMatchObject({ code: 'CANCELLED' });
});

it('brings a question back with an arrow key', async () => {
  const { ended } = await start();
  input.write('Who?\r');
  await expect.poll(() => shown.stdout).toContain('base read u: Who?');
  input.write(`${ARROW_UP}\r`);
  await expect.poll(() => shown.stdout).toContain('base read uau: Who?');
  input.end();
  await ended;
});
