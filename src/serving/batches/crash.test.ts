import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { removeFolder, TestApi, temporaryFolder } from '../../../test/support/batch-fixture.js';
import { runCommand } from '../../../test/support/command-line.js';
import { packageRoot } from '../../core/package.js';
import type { Dispatch } from '../dispatch.js';

const TSX = join(dirname(createRequire(import.meta.url).resolve('tsx/package.json')), 'dist', 'cli.mjs');
const CHILD = join(packageRoot, 'test', 'support', 'batches-child.ts');
/** Rounds of each life of the server, and when it is killed in the next. */
const LIVES = [
  { rounds: 2, milliseconds: 5 },
  { rounds: 1, milliseconds: 60 },
];
/** What the child lets be under way at a time. */
const CONCURRENT = 3;

const folder = await temporaryFolder();
afterAll(() => removeFolder(folder));

interface Accepted {
  batch: string;
  prefix: string;
  file: string;
}

it('loses no accepted file or batch and answers no request twice when the process is killed', async () => {
  const accepted: Accepted[] = [];
  for (const { rounds, milliseconds } of LIVES) {
    const child = await runCommand([CHILD, folder, String(rounds), String(milliseconds)], { folder, script: TSX });
    expect(child.stderr).toBe('');
    accepted.push(
      ...child.stdout
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    );
  }
  expect(accepted.length).toBeGreaterThanOrEqual(3);
  const asked = readFileSync(join(folder, 'asked'), 'utf8').trim().split('\n').length;
  expect(asked).toBeGreaterThan(6);

  let askedAgain = 0;
  const dispatch: Dispatch = async (_path, body) => {
    askedAgain++;
    return { status: (body as { number: number }).number === 1 ? 400 : 200, body };
  };
  const api = await TestApi.open({ folder: join(folder, 'store'), dispatch });
  expect(api.warnings).toEqual([]);
  for (const { batch: id, prefix, file } of accepted) {
    const batch = await api.untilStatus(id, ['completed', 'failed', 'cancelled', 'expired']);
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 6, completed: 5, failed: 1 } });
    const ids = (await api.lines(batch.output_file_id)).map(({ custom_id }) => custom_id);
    expect(ids).toEqual([0, 2, 3, 4, 5].map((number) => `${prefix}${number}`));
    expect((await api.lines(batch.error_file_id)).map(({ custom_id }) => custom_id)).toEqual([`${prefix}1`]);
    const { text } = await api.call('GET', `/v1/files/${file}/content`);
    expect([text.length, text.startsWith(prefix)]).toEqual([prefix.length + 200_000, true]);
  }
  // A kill can cut off those that were under way, and no others.
  const batches = (await api.call('GET', '/v1/batches?limit=100')).json.data;
  await Promise.all(batches.map(({ id }: { id: string }) => api.untilStatus(id, ['completed'])));
  expect(asked + askedAgain - batches.length * 6).toBeLessThanOrEqual(LIVES.length * CONCURRENT);
  const files = (await api.call('GET', '/v1/files')).json.data;
  const outputs = files.filter(({ purpose }: { purpose: string }) => purpose === 'batch_output');
  expect(outputs).toHaveLength(batches.length * 2);
  await api.close();
});
