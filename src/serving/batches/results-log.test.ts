import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from '../../../test/support/batch-fixture.js';
import { ResultsLog } from './results-log.js';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  path = join(folder, 'log');
});
afterEach(() => removeFolder(folder));

const json = (index: number) => JSON.stringify({ index, text: 'ä\n'.repeat(index) });

describe('ResultsLog', () => {
  it('has what was appended, in any order and at the same time, after it was opened again', async () => {
    const log = await ResultsLog.open(path, 1000);
    await Promise.all([7, 0, 3].map((index) => log.append({ index, failed: index === 3, json: json(index) })));
    expect(log.counts).toEqual({ completed: 2, failed: 1 });
    expect(await log.read(7)).toEqual({ failed: false, json: json(7) });
    await log.close();

    const again = await ResultsLog.open(path, 1000);
    expect(again.counts).toEqual({ completed: 2, failed: 1 });
    expect([0, 1, 3, 7].map((index) => again.has(index))).toEqual([true, false, true, true]);
    expect(await again.read(3)).toEqual({ failed: true, json: json(3) });
    expect(await again.read(1)).toBeUndefined();
    expect(again.bytes).toBe((await readFile(path)).length);
    await again.close();
  });

  it('resolves an append that comes while another ends', async () => {
    const log = await ResultsLog.open(path, 1000);
    for (let index = 0; index < 50; index++) {
      const first = log.append({ index: 2 * index, failed: false, json: '{}' });
      const second = first.then(() => log.append({ index: 2 * index + 1, failed: false, json: '{}' }));
      await second;
      expect(log.has(2 * index + 1)).toBe(true);
    }
    await log.close();
  });

  it.each(['9 0 {"cut":', '9 0 {}', 'noise\n', '9 2 {}\n', '\0\0\0\n9 0 {}\n', `9 0 {"a":"${'x'.repeat(2000)}"}\n`])(
    'cuts off what is not whole: %j',
    async (tail) => {
      await writeFile(path, `4 0 {"a":1}\n`);
      await appendFile(path, tail);
      const log = await ResultsLog.open(path, 1000);
      await log.append({ index: 5, failed: false, json: '{"b":2}' });
      await log.close();
      expect(await readFile(path, 'utf8')).toBe('4 0 {"a":1}\n5 0 {"b":2}\n');
    },
  );
});
