import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { chunksOf, eventText, OpenAiStandIn } from '../../test/support/openai-stand-in.js';
import { textCartridge } from '../../test/support/text-cartridge.js';
import { OpenAiServer } from '../chat/openai-server.js';
import { CartridgesError } from '../core/errors.js';
import { InferenceEngine } from '../inference/inference-engine.js';
import type { ChatBackend, ChatContext } from './chat-backend.js';
import { ChatSession } from './chat-session.js';
import { EngineChatBackend } from './engine-chat-backend.js';
import { ModelSession } from './model-session.js';
import { ServerChatBackend } from './server-chat-backend.js';
import { timeAnswer } from './timed-answer.js';

const TEXTS: Record<string, string> = {
  notes: 'The flag of the Pouclal is green.',
  letters: 'The flag of the Pouclal is red.',
};
const NAMES = Object.keys(TEXTS);
const QUESTION = 'What colour is the flag of the Pouclal?';
let model: ModelSession;
let standIn: OpenAiStandIn;

beforeAll(async () => {
  model = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  standIn = await OpenAiStandIn.start();
});
afterAll(async () => {
  await standIn.stop();
  await model.dispose();
});

const open = async (name: string) => {
  const text = TEXTS[name];
  if (text !== undefined) return textCartridge(model, text);
  throw new CartridgesError('FILE_NOT_FOUND', `${name} does not exist`);
};
const BACKENDS: [string, () => Promise<ChatBackend>][] = [
  ['the engine', async () => new EngineChatBackend({ session: model, names: NAMES, open })],
  ['a server', () => ServerChatBackend.connect(new OpenAiServer({ url: standIn.url }))],
];

async function answerOf(pieces: AsyncIterable<string>): Promise<string> {
  let answer = '';
  for await (const text of pieces) answer += text;
  return answer;
}

describe.each(BACKENDS)('a conversation with %s', (_name, openBackend) => {
  let chat: ChatSession;

  beforeAll(async () => {
    chat = new ChatSession({ backend: await openBackend(), maxTokens: 12 });
  });
  afterEach(() => chat.clear());
  afterAll(() => chat.dispose());

  it('keeps the turns, takes them back, and starts over', async () => {
    const first = await answerOf(chat.ask('Which day comes after Monday?'));
    expect(first).toMatch(/\w/);
    const second = await answerOf(chat.ask('And after that?'));
    expect(chat.messages.map(({ role, content }) => [role, content])).toEqual([
      ['user', 'Which day comes after Monday?'],
      ['assistant', first],
      ['user', 'And after that?'],
      ['assistant', second],
    ]);
    chat.undo();
    expect(chat.messages).toHaveLength(2);
    expect(await answerOf(chat.ask('And after that?'))).toBe(second);
    chat.clear();
    expect(chat.messages).toEqual([]);
    expect(await answerOf(chat.ask('Which day comes after Monday?'))).toBe(first);
  });

  it('answers from another cartridge, and keeps the one in use when another cannot be used', async () => {
    const bare = await answerOf(chat.ask(QUESTION));
    chat.clear();
    expect(await chat.cartridges()).toEqual(NAMES);
    await chat.use('notes');
    const behind = await answerOf(chat.ask(QUESTION));
    expect(behind).not.toBe(bare);
    await expect(chat.use('nothing')).rejects.toMatchObject({ code: expect.stringMatching(/NOT_FOUND$/) });
    expect(chat.cartridge).toBe('notes');
    chat.undo();
    expect(await answerOf(chat.ask(QUESTION))).toBe(behind);
    await chat.use('letters');
    chat.clear();
    expect(await answerOf(chat.ask(QUESTION))).not.toBe(behind);
    await chat.use(undefined);
    chat.clear();
    expect(await answerOf(chat.ask(QUESTION))).toBe(bare);
  });

  it('keeps nothing of an answer that is broken off', async () => {
    await answerOf(chat.ask(QUESTION));
    const before = chat.messages;
    for await (const _text of chat.ask('And who has the lamp?')) break;
    expect(chat.messages).toBe(before);
    const controller = new AbortController();
    controller.abort();
    await expect(answerOf(chat.ask('Who?', controller.signal))).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(chat.messages).toBe(before);
  });

  it('asks a question alone behind a text, beside the conversation', async () => {
    await answerOf(chat.ask(QUESTION));
    const text = 'The brass key is with Mara Quill. '.repeat(4);
    const [behindText, alone] = [
      await chat.askAlone(QUESTION, { kind: 'text', text }),
      await chat.askAlone(QUESTION, { kind: 'none' }),
    ];
    expect(behindText.text).not.toBe(alone.text);
    for (const { usage, timeToFirstTokenMs, totalMs } of [behindText, alone]) {
      expect(usage?.completionTokens).toBeGreaterThan(0);
      expect(timeToFirstTokenMs).toBeGreaterThan(0);
      expect(totalMs).toBeGreaterThanOrEqual(timeToFirstTokenMs);
    }
    expect(chat.messages).toHaveLength(2);
  });
});

describe('the engine', () => {
  const backendWith = (texts = TEXTS) =>
    new EngineChatBackend({ session: model, names: NAMES, open: (name) => textCartridge(model, texts[name] as string) });
  const ask = async (backend: ChatBackend, context: ChatContext, ...contents: string[]) => {
    const messages = contents.map((content, turn) => ({
      role: turn % 2 === 0 ? ('user' as const) : ('assistant' as const),
      content,
    }));
    return timeAnswer(backend.answer({ context, messages, maxTokens: 8, sampling: { temperature: 0 } }));
  };
  const NOTES: ChatContext = { kind: 'cartridge', name: 'notes' };

  it('answers from the cartridge', async () => {
    const chat = await ChatSession.start({ session: model, cartridge: await open('letters'), maxTokens: 12 });
    expect(await answerOf(chat.ask(QUESTION))).toContain('red');
    await chat.dispose();
  });

  it('guesses from the text what an answer may quote, and answers the same', async () => {
    const text = 'In spring the flag of the Pouclal is green. Its crew sails from Harrow.';
    const generate = vi.spyOn(InferenceEngine.prototype, 'generate');
    const backend = new EngineChatBackend({ session: model, names: NAMES, open, text });
    const { text: answer } = await ask(backend, NOTES, QUESTION);
    await backend.dispose();
    const drafter = generate.mock.lastCall![0].draft!.follow(model.tokenizer.encode('In spring the flag'), 8);
    generate.mockRestore();
    expect(model.tokenizer.decode([...drafter.guess(3).tokens])).toMatch(/^ of the/);

    const plain = backendWith();
    expect((await ask(plain, NOTES, QUESTION)).text).toBe(answer);
    await plain.dispose();
  });

  it('computes earlier turns once', async () => {
    const backend = backendWith();
    const { text, usage } = await ask(backend, NOTES, QUESTION);
    const { tokenCount } = await open('notes');
    expect(usage).toMatchObject({ cachedPromptTokens: 0, cartridgeTokens: tokenCount });
    const second = await ask(backend, NOTES, QUESTION, text, 'And its crew?');
    expect(second.usage?.cachedPromptTokens).toBeGreaterThanOrEqual(usage!.promptTokens - 1);
    await backend.dispose();
  });

  it('makes more room when a cartridge and a text need it, and says when there is none', async () => {
    const long = (sentences: number) => `${TEXTS['notes']} ${'The Rister carries wine. '.repeat(sentences)}`;
    const backend = backendWith({ notes: TEXTS['notes']!, letters: long(90) });
    await ask(backend, NOTES, QUESTION);
    expect((await ask(backend, { kind: 'cartridge', name: 'letters' }, QUESTION)).text).toContain('green');
    const { usage } = await ask(backend, { kind: 'text', text: long(250) }, QUESTION);
    expect(usage?.promptTokens).toBeGreaterThan(model.config.contextLength - 500);
    expect((await ask(backend, NOTES, QUESTION)).text).toContain('green');
    await expect(ask(backend, { kind: 'text', text: long(600) }, QUESTION)).rejects.toMatchObject({
      code: 'CONTEXT_OVERFLOW',
      message: expect.stringMatching(/the full text/),
    });
    await expect(ask(backend, NOTES, long(600))).rejects.toMatchObject({ hint: expect.stringMatching(/\/clear/) });
    await backend.dispose();
  });
});

describe('a server', () => {
  const connect = (name?: string) => ServerChatBackend.connect(new OpenAiServer({ url: standIn.url }), name);

  afterEach(() => {
    standIn.models = ['base', 'base:notes', 'base:letters'];
    standIn.chat = (request, response) => standIn.answer(request, response);
  });

  it('must be told which model when there is more than one', async () => {
    standIn.models = ['base', 'base:notes', 'llama3:8b', 'llama3:70b'];
    await expect(connect()).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      hint: expect.stringMatching(/base, llama3:8b, llama3:70b/),
    });
    expect(await (await connect('llama3:8b')).cartridges()).toEqual([]);
    standIn.models = [];
    await expect(connect()).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });

  it('finds a cartridge by its name and by the id of its model', async () => {
    const backend = await connect();
    expect(await backend.prepare('notes')).toBe('notes');
    expect(await backend.prepare('base:notes')).toBe('notes');
    await expect(backend.prepare('none')).rejects.toMatchObject({ code: 'NOT_FOUND', hint: 'it lists: notes, letters' });
  });

  it('gets the text in a system message', async () => {
    const chat = new ChatSession({ backend: await connect(), sampling: { temperature: 0.5, seed: 3 }, maxTokens: 9 });
    expect((await chat.askAlone('Who?', { kind: 'text', text: 'Mara.' })).text).toBe('base read su: Who?');
    expect(standIn.requests.at(-1)?.body).toMatchObject({
      messages: [
        { role: 'system', content: 'Mara.' },
        { role: 'user', content: 'Who?' },
      ],
      max_tokens: 9,
      temperature: 0.5,
      seed: 3,
    });
  });

  it('leaves the history as it was when the connection breaks', async () => {
    const chat = new ChatSession({ backend: await connect() });
    standIn.chat = (_request, response) => {
      response.writeHead(200).write(eventText(chunksOf(['Mara']).slice(0, 2)), () => response.destroy());
    };
    await expect(answerOf(chat.ask('Who?'))).rejects.toMatchObject({ code: 'SERVER_FAILED' });
    expect(chat.messages).toEqual([]);
  });
});
