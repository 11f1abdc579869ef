/**
 * Runs in a process of its own: `batches-child.ts FOLDER ROUNDS MILLISECONDS`. Serves files and batches from `FOLDER/store` with
 * answers that take a while, accepts a file and a batch each round without end, and prints what was accepted. So much time after
 * so many rounds it ends itself with SIGKILL. Requests that were asked are written to `FOLDER/asked`, which no crash loses.
 */

import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dispatch } from '../../src/serving/dispatch.js';
import { requestLines, TestApi } from './batch-fixture.js';

const REQUESTS = 6;
const [folder, rounds, milliseconds] = process.argv.slice(2) as [string, string, string];

const dispatch: Dispatch = async (_path, body) => {
  const { number } = body as { number: number };
  appendFileSync(join(folder, 'asked'), `${number}\n`);
  await sleep(5 + (number % 3) * 10);
  return { status: number === 1 ? 400 : 200, body: { number, text: 'x'.repeat(number * 1000) } };
};

const api = await TestApi.open({ folder: join(folder, 'store'), dispatch, limits: { concurrentRequests: 3 } });
for (let round = 0; ; round++) {
  if (round === Number(rounds)) setTimeout(() => process.kill(process.pid, 'SIGKILL'), Number(milliseconds));
  const prefix = `${process.pid}-${round}-`;
  const [batch, file] = await Promise.all([
    api.startBatch(requestLines(REQUESTS, prefix)),
    api.upload(`${prefix}${'y'.repeat(200_000)}`, { purpose: 'user_data' }),
  ]);
  console.log(JSON.stringify({ batch, prefix, file: file.json.id }));
  await sleep(40);
}
