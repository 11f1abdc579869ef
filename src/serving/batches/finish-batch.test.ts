import { afterAll, expect, it } from 'vitest';
import { removeFolder, requestLines, temporaryFolder } from '../../../test/support/batch-fixture.js';
import { DEFAULT_BATCH_LIMITS } from './batch-limits.js';
import { BatchStore } from './batch-store.js';
import { finishBatch } from './finish-batch.js';
import { ResultsLog } from './results-log.js';

const folder = await temporaryFolder();
afterAll(() => removeFolder(folder));

it('ends a batch as cancelled that was cancelled while its last answer came', async () => {
  const store = await BatchStore.open({ folder, limits: DEFAULT_BATCH_LIMITS, warn: () => {} });
  const draft = await store.files.beginUpload('alice');
  await draft.write(Buffer.from(requestLines(1)));
  const { id: inputFileId } = await store.publish(draft, { filename: 'in', purpose: 'batch' });
  const order = {
    inputFileId,
    endpoint: '/v1/chat/completions' as const,
    completionWindow: '1h',
    metadata: null,
    expiresAtMs: 1e15,
  };
  const batch = await store.create('alice', order);
  await store.update(batch, () => ({ status: 'cancelling', total: 1 }));
  const log = await ResultsLog.open(store.resultsPath(batch.id), 1000);
  await log.append({ index: 0, failed: false, json: '{"custom_id":"r0"}' });
  await finishBatch(store, batch, { outcome: 'completed' }, log);
  await log.close();
  const ended = store.get('alice', batch.id);
  expect(ended).toMatchObject({ status: 'cancelled', counts: { completed: 1, failed: 0 }, outputFileId: expect.any(String) });
  expect(
    store.files
      .list('alice')
      .map(({ purpose }) => purpose)
      .sort(),
  ).toEqual(['batch', 'batch_output']);
});
