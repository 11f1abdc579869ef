import { Agent } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../../src/core/random.js';
import { type AloneAnswer, type AskedToken, aloneAnswers, compareAnswers } from '../support/alone-answers.js';
import { PocketServer } from '../support/pocket-server.js';

/**
 * A hundred clients at once, with keys, cartridges, streams and aborts by chance, for `CARTRIDGES_STRESS_SECONDS`. Afterwards
 * nothing may be left behind, and every answer has to be the one that the same request gets alone on a fresh engine: equal, or
 * parting where two tokens are about as probable there.
 */

const SECONDS = Number(process.env['CARTRIDGES_STRESS_SECONDS'] || 8);
const CLIENTS = 100;
const ROUNDS = 3;
const QUESTIONS = 48;
/** Of the heap, behind the first round, in which caches of the language runtime settle. */
const MAX_GROWTH_BYTES = 8 << 20;

const TEXTS = {
  harbour: 'The harbour master is called Ines. She keeps three cats.',
  clinic: 'The clinic opens at nine. Doctor Okafor sees children on Friday.',
  lunch: 'Lunch is at noon, in the small room behind the kitchen.',
};
const KEYS = ['ana', 'bob', 'eve', 'joe'];

let server: PocketServer;
let questions: Question[];
const tally = { answered: 0, compared: 0, parted: 0, aborted: 0, largestShift: 0 };

beforeAll(async () => {
  server = await PocketServer.start({
    cartridges: TEXTS,
    keys: Object.fromEntries(KEYS.map((name) => [name, { cartridges: ['*'], admin: true }])),
    // Little enough room that turns and cartridges are dropped for others all the time.
    serving: { contextTokens: 3072, requestTokens: 128, maxRequests: 32 },
  });
  questions = await drawQuestions(new Random(1));
}, 300_000);
afterAll(() => server.close());

interface Question {
  body: { model: string; cartridges: { id: string }[]; messages: { role: string; content: string }[]; max_tokens: number };
  alone: AloneAnswer;
}

const CHOICES = [[], [], ['harbour'], ['clinic'], ['lunch'], ['harbour', 'lunch'], ['lunch', 'harbour'], ['clinic', 'lunch']];
const SENTENCES = [
  'Tell me about the people here.',
  'Who is in charge?',
  'When does it open?',
  'Which day comes after Monday?',
  'Write a short letter to my sister.',
  'Count from one to ten.',
  'What is there to eat?',
];

/** Chats that begin alike, so that they can reuse each other's turns, behind none, one or two cartridges. */
async function drawQuestions(random: Random): Promise<Question[]> {
  const bodies = Array.from({ length: QUESTIONS }, () => {
    const turns = Array.from({ length: 1 + 2 * random.integer(3) }, (_, index) => ({
      role: index % 2 ? 'assistant' : 'user',
      content: random.pick(SENTENCES.slice(0, index === 0 ? 3 : SENTENCES.length)),
    }));
    const ids = random.pick(CHOICES);
    return { model: 'pocket', cartridges: ids.map((id) => ({ id })), messages: turns, max_tokens: 4 + random.integer(28) };
  });
  const alone = await aloneAnswers(
    server.folder,
    bodies.map(({ cartridges, messages, max_tokens }) => ({
      ids: cartridges.map(({ id }) => id),
      messages,
      maxTokens: max_tokens,
    })),
  );
  return bodies.map((body, index) => ({ body, alone: alone[index]! }));
}

/** Asks one question after the other until the time is over. */
async function runClient(number: number, untilMs: number): Promise<void> {
  const random = new Random(number);
  while (performance.now() < untilMs) {
    const question = questions[random.integer(QUESTIONS)]!;
    const key = KEYS[(number + random.integer(2)) % KEYS.length]!;
    if (random.uniform() < 0.3) await askAndLeave(question, key, random);
    else if (random.uniform() < 0.15) await askAtRandom(question, key, random);
    else await askAndCompare(question, key, random.uniform() < 0.5);
  }
}

const GREEDY = { temperature: 0, logprobs: true, top_logprobs: 2 };
const freshConnection = () => new Agent({ keepAlive: false });

async function askAndCompare({ body, alone }: Question, key: string, stream: boolean): Promise<void> {
  const json = { ...body, ...GREEDY, stream };
  const reply = await server.send({ path: '/v1/chat/completions', key, json, agent: freshConnection() });
  expect(reply.status, reply.text).toBe(200);
  tally.answered++;
  const choices = stream ? readEvents(reply.text.split('\n')).flat() : reply.json.choices;
  compare(alone, choices.flatMap(tokensOf), true);
}

/** An answer that depends on chance: it is there for what it does to the others. */
async function askAtRandom({ body }: Question, key: string, random: Random): Promise<void> {
  const json = { ...body, temperature: 0.7, seed: random.integer(1000), n: 1 + random.integer(3) };
  const reply = await server.send({ path: '/v1/chat/completions', key, json, agent: freshConnection() });
  expect(reply.status, reply.text).toBe(200);
  tally.answered++;
}

/** Goes away while waiting, or in the middle of the answer. What came until then is compared too. */
async function askAndLeave({ body, alone }: Question, key: string, random: Random): Promise<void> {
  const abort = new AbortController();
  const json = { ...body, ...GREEDY, stream: true, max_tokens: 200, ignore_eos: true };
  const call = { path: '/v1/chat/completions', key, json, agent: freshConnection(), signal: abort.signal };
  const patience = setTimeout(random.integer(400), undefined, { signal: abort.signal }).then(() => abort.abort());
  patience.catch(() => undefined);
  const wanted = random.integer(30);
  const tokens: AskedToken[] = [];
  try {
    const response = await server.open(call);
    expect(response.statusCode).toBe(200);
    // The reading tells of a broken connection; after it nobody needs to hear of one.
    const lines = createInterface(response).on('error', () => undefined);
    for await (const line of lines) {
      tokens.push(...readEvents([line]).flat().flatMap(tokensOf));
      if (tokens.length > wanted) break;
    }
  } catch (error) {
    if (!abort.signal.aborted) throw error;
  }
  abort.abort();
  tally.aborted++;
  compare(alone, tokens, false);
}

// biome-ignore lint/suspicious/noExplicitAny: parts of answers, whose shape other tests check
function readEvents(lines: readonly string[]): any[][] {
  const events = lines.filter((line) => line.startsWith('data: {')).map((line) => JSON.parse(line.slice('data: '.length)));
  for (const event of events) expect(event).not.toHaveProperty('error');
  return events.map(({ choices }) => choices);
}

function tokensOf(choice: { logprobs: { content: AskedToken[] } | null }): AskedToken[] {
  return choice.logprobs?.content ?? [];
}

function compare(alone: AloneAnswer, tokens: readonly AskedToken[], isWhole: boolean): void {
  const { partedAt, gap, shift } = compareAnswers(alone, tokens, isWhole);
  tally.compared++;
  tally.largestShift = Math.max(tally.largestShift, shift);
  if (partedAt === undefined) return;
  tally.parted++;
  expect(gap, `an answer parts from the one alone at token ${partedAt}`).toBeLessThanOrEqual(1);
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

async function heapBytes(): Promise<number> {
  for (let times = 0; times < 3; times++) {
    collectGarbage();
    await setTimeout(10);
  }
  return process.memoryUsage().heapUsed;
}

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
}

test(
  `${CLIENTS} clients for ${SECONDS} s leave nothing behind and get no wrong answer`,
  async () => {
    const heaps: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const untilMs = performance.now() + (SECONDS * 1000) / ROUNDS;
      await Promise.all(Array.from({ length: CLIENTS }, (_, number) => runClient(round * CLIENTS + number, untilMs)));
      const metrics = await server.whenIdle();
      server.disconnect();
      const cells = (owner: string) => metrics.get(`kv_cells{owner="${owner}"}`)!;
      expect(cells('requests')).toBe(0);
      expect(cells('free') + cells('cartridges') + cells('cached_turns')).toBe(server.running.plan.contextTokens);
      expect(await holders()).toEqual([0, 0, 0]);
      server.disconnect();
      await expect.poll(openSockets, { timeout: 10_000 }).toBe(0);
      heaps.push(await heapBytes());
    }
    report(heaps);
    expect(tally.aborted).toBeGreaterThan(CLIENTS / 4);
    expect(tally.compared).toBeGreaterThan(CLIENTS);
    expect(heaps.at(-1)! - heaps[0]!).toBeLessThan(MAX_GROWTH_BYTES);
  },
  (SECONDS + 300) * 1000,
);

/** Requests that each cartridge thinks it is used by. */
function holders(): Promise<number[]> {
  const ask = (id: string) => server.send({ path: `/v1/cartridges/${id}`, key: KEYS[0]! });
  return Promise.all(Object.keys(TEXTS).map(async (id) => (await ask(id)).json.holders));
}

function report(heaps: readonly number[]): void {
  const { answered, compared, parted, aborted, largestShift } = tally;
  const share = ((100 * parted) / compared).toFixed(2);
  const megabytes = heaps.map((bytes) => (bytes / 2 ** 20).toFixed(1)).join(', ');
  console.log(
    `${answered} answers, ${aborted} aborted; ${compared} compared, ${parted} parted (${share} %), ` +
      `log-probs of equal beginnings differ by at most ${largestShift.toFixed(4)}; heap after each round ${megabytes} MiB`,
  );
}
