import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { AnswerMeter } from '../../src/serving/metrics/answer-meter.js';
import { PocketServer, type Reply } from '../support/pocket-server.js';

const MOST = 3;
const CHAT = '/v1/chat/completions';
const TEXT = '/v1/completions';
const LONG = { ignore_eos: true, max_tokens: 1000 };

let server: PocketServer;
beforeAll(async () => {
  server = await PocketServer.start({ keys: { ana: { limits: { concurrency: MOST } }, bob: {} } });
});
afterEach(() => vi.restoreAllMocks());
afterAll(() => server.close());

const chat = (more: object) => ({ model: 'pocket', messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4, ...more });
const ask = (path: string, json: object, key = 'ana') => server.send({ path, json, key });

/** A stream that has begun; what is returned ends it. */
async function stream(more: object): Promise<() => Promise<void>> {
  const client = new AbortController();
  const json = chat({ ...LONG, stream: true, ...more });
  const response = await server.open({ path: CHAT, key: 'ana', json, signal: client.signal });
  await once(response, 'data');
  response.on('error', () => {}).resume();
  return async () => {
    client.abort();
    await server.whenIdle();
  };
}

/** Counts how many requests have their answers made at the same time from now on. */
function countUnderWay(): { most: number } {
  const { began } = AnswerMeter.prototype;
  const counted = { underWay: 0, most: 0 };
  vi.spyOn(AnswerMeter.prototype, 'began').mockImplementation(function (this: AnswerMeter, caller) {
    counted.most = Math.max(counted.most, ++counted.underWay);
    const trace = began.call(this, caller);
    return {
      ...trace,
      finished: (usage) => {
        counted.underWay--;
        trace.finished(usage);
      },
    };
  });
  return counted;
}

it('counts every choice of every prompt', async () => {
  const end = await stream({ n: 2 });
  const refused = await ask(CHAT, chat({ n: 2 }));
  expect([refused.status, refused.json.error.message]).toEqual([429, expect.stringMatching(/2 answers .* 2 more .* 3 /)]);
  expect(Number(refused.headers['retry-after'])).toBeGreaterThanOrEqual(1);
  expect((await ask(TEXT, { model: 'pocket', prompt: ['a', 'b'], max_tokens: 1 })).status).toBe(429);
  expect((await ask(CHAT, chat({}))).status).toBe(200);
  expect((await ask(CHAT, chat({ n: 4 }), 'bob')).status).toBe(200);
  await end();
  expect((await ask(CHAT, chat({ n: MOST }))).status).toBe(200);
});

it('refuses for good what alone is more than the key may have', async () => {
  const refused = async (path: string, json: object) => {
    const { status, json: body, headers } = await ask(path, json);
    return [status, body.error.param, body.error.message, headers['retry-after']];
  };
  const reason = expect.stringContaining('4 answers, and the key may have 3 at a time');
  expect(await refused(CHAT, chat({ n: 4 }))).toEqual([400, 'n', reason, undefined]);
  expect(await refused(TEXT, { model: 'pocket', prompt: ['a', 'b'], n: 2 })).toEqual([400, 'n', reason, undefined]);
  expect(await refused(TEXT, { model: 'pocket', prompt: ['a', 'b', 'c', 'd'] })).toEqual([400, 'prompt', reason, undefined]);
});

it('runs no more lines of a synchronous batch at a time, and answers all of them', async () => {
  const requests = Array.from({ length: 8 }, () => chat({ ...LONG, max_tokens: 100 }));
  const counted = countUnderWay();
  const batch = await ask('/custom/synchronous-batch-completions', { requests: [...requests, chat({ n: 4 })] });
  const answers: Reply['json'][] = batch.json;
  expect(counted.most).toBe(MOST);
  expect(answers.slice(0, -1).map(({ usage }) => usage?.completion_tokens)).toEqual(Array(8).fill(100));
  expect(answers.at(-1).error).toMatchObject({ param: 'n', message: expect.stringContaining('3 at a time') });
});

it('lets lines wait for what else the key has under way', async () => {
  const end = await stream({ n: MOST });
  const counted = countUnderWay();
  const batch = ask('/custom/synchronous-batch-completions', { requests: [chat({}), chat({})] });
  // Longer than lines take that do not wait.
  expect((await ask(CHAT, chat({ max_tokens: 50 }), 'bob')).status).toBe(200);
  expect(counted.most).toBe(1);
  await end();
  const answers: Reply['json'][] = (await batch).json;
  expect(answers.map(({ usage }) => usage?.completion_tokens)).toEqual([4, 4]);
});
