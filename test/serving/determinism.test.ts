import { afterAll, beforeAll, expect, test } from 'vitest';
import { PocketServer, type Reply } from '../support/pocket-server.js';

/**
 * How often the same request gets the same text alone and inside a full batch. A decode of many rows rounds differently from
 * one of few, so a text can part where two tokens are about as probable; the rate is printed for the documentation.
 */

const REQUESTS = 48;

const cartridges = { harbour: 'The harbour master is called Ines. She keeps three cats.' };
const serving = { maxRequests: 24 };
let alone: PocketServer;
let crowded: PocketServer;
beforeAll(async () => {
  alone = await PocketServer.start({ cartridges, serving });
  crowded = await PocketServer.start({ cartridges, serving });
});
afterAll(async () => {
  await alone.close();
  await crowded.close();
});

const SUBJECTS = ['the harbour', 'my sister', 'a clinic', 'lunch', 'Monday', 'three cats', 'the sea', 'a letter'];

function bodyOf(index: number, temperature: number) {
  const content = `Tell me ${index % 2 ? 'all' : 'a little'} about ${SUBJECTS[index % SUBJECTS.length]}, part ${index}.`;
  const model = index % 3 ? 'pocket' : 'pocket:harbour';
  return { model, messages: [{ role: 'user', content }], max_tokens: 32, temperature, seed: index };
}

const ask = (server: PocketServer, json: object) => server.send({ path: '/v1/chat/completions', json });
const textOf = ({ json }: Reply): string => json.choices[0].message.content;

/** With a smaller share of equal texts a prompt or a draw has to depend on what else runs. */
const LEAST_EQUAL = 0.7;

test.each([0, 0.7])(
  'a request at temperature %d gets the same text alone and in a full batch',
  async (temperature) => {
    const bodies = Array.from({ length: REQUESTS }, (_, index) => bodyOf(index, temperature));
    const expected: string[] = [];
    for (const body of bodies) expected.push(textOf(await ask(alone, body)));
    const texts = (await Promise.all(bodies.map((body) => ask(crowded, body)))).map(textOf);
    const equal = texts.filter((text, index) => text === expected[index]).length;
    console.log(`temperature ${temperature}: ${equal} of ${REQUESTS} texts are equal alone and in a full batch`);
    expect(new Set(texts).size).toBeGreaterThan(REQUESTS / 4);
    expect(equal / REQUESTS).toBeGreaterThanOrEqual(LEAST_EQUAL);
  },
  300_000,
);
