import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  callerOf,
  echo,
  HeldDispatch,
  removeFolder,
  requestLine,
  requestLines,
  TestApi,
  temporaryFolder,
  until,
} from '../../../test/support/batch-fixture.js';
import { CartridgesError } from '../../core/errors.js';
import type { Dispatch } from '../dispatch.js';
import { FileStore } from './file-store.js';
import { ResultsLog } from './results-log.js';

let folder: string;
let api: TestApi;
beforeEach(async () => {
  folder = await temporaryFolder();
  api = await TestApi.open({ folder });
});
afterEach(async () => {
  await api.close();
  await removeFolder(folder);
});

async function reopen(options: Partial<Parameters<typeof TestApi.open>[0]>): Promise<void> {
  await api.close();
  api = await TestApi.open({ folder, ...options });
}

/** Changes a batch on disk as an earlier server could have left it. */
async function changeRecord(id: string, changes: object): Promise<void> {
  const path = join(folder, 'batches', `${id}.json`);
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), ...changes }));
}

const ENDED = ['completed', 'failed', 'cancelled', 'expired'];
const numbersOf = (lines: { custom_id: string }[]) => lines.map(({ custom_id }) => Number(custom_id.slice(1)));

describe('a batch', () => {
  it('answers its requests as its owner, and writes them in the order of the input', async () => {
    let turn = 0;
    const dispatch: Dispatch = async (path, body, caller) => {
      await new Promise((resolve) => setTimeout(resolve, (turn++ * 7) % 5));
      return echo(path, body, caller);
    };
    await reopen({ dispatch });
    const id = await api.startBatch(requestLines(20), { metadata: { purpose: 'test' } });
    const batch = await api.untilStatus(id, ENDED);
    expect(batch).toMatchObject({
      id,
      object: 'batch',
      status: 'completed',
      endpoint: '/v1/chat/completions',
      errors: null,
      error_file_id: null,
      completion_window: '24h',
      expires_at: batch.created_at + 86_400,
      failed_at: null,
      cancelled_at: null,
      expired_at: null,
      request_counts: { total: 20, completed: 20, failed: 0 },
      metadata: { purpose: 'test' },
    });
    for (const moment of ['in_progress_at', 'finalizing_at', 'completed_at']) expect(batch[moment]).toBeGreaterThan(0);
    const lines = await api.lines(batch.output_file_id);
    expect(numbersOf(lines)).toEqual(Array.from({ length: 20 }, (_, index) => index));
    expect(lines[3]).toEqual({
      id: expect.stringMatching(/^batch_req_/),
      custom_id: 'r3',
      response: {
        status_code: 200,
        request_id: expect.stringMatching(/^req_/),
        body: { path: '/v1/chat/completions', echo: { number: 3 }, scope: 'alice' },
      },
      error: null,
    });
    expect(new Set(lines.map(({ id }: { id: string }) => id)).size).toBe(20);
    const file = (await api.call('GET', `/v1/files/${batch.output_file_id}`)).json;
    expect(file).toMatchObject({ purpose: 'batch_output', filename: `${id}_output.jsonl` });
    expect((await readdir(join(folder, 'batches'))).filter((name) => name.endsWith('.results'))).toEqual([]);
  });

  it('goes on beside requests that fail, and keeps them apart', async () => {
    const dispatch: Dispatch = async (_path, body) => {
      const { number } = body as { number: number };
      if (number === 1) return { status: 400, body: { error: { message: 'wrong', type: 'invalid_request_error' } } };
      if (number === 2) throw new Error('broken');
      if (number === 3) return { status: 429, body: { error: { message: 'busy' } } };
      if (number === 4) return { status: 200, body: { long: 'x'.repeat(5000) } };
      return { status: 200, body: { number } };
    };
    await reopen({ dispatch, limits: { maxAnswerBytes: 4000 } });
    const batch = await api.untilStatus(await api.startBatch(requestLines(6)), ENDED);
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 6, completed: 2, failed: 4 } });
    expect(numbersOf(await api.lines(batch.output_file_id))).toEqual([0, 5]);
    const errors = await api.lines(batch.error_file_id);
    expect(numbersOf(errors)).toEqual([1, 2, 3, 4]);
    expect(errors[0].response).toMatchObject({ status_code: 400, body: { error: { message: 'wrong' } } });
    expect(errors[1].response).toMatchObject({ status_code: 500, body: { error: { message: 'the server failed' } } });
    expect(errors[2].response).toMatchObject({ status_code: 429 });
    expect(errors[3]).toMatchObject({ response: null, error: { code: 'answer_too_large' } });
    expect(api.warnings.join()).toContain('broken');
  });

  it('says in a line what is to be known beside its answer', async () => {
    const dispatch: Dispatch = async (_path, body) => ({
      status: 200,
      body,
      ...((body as { number: number }).number === 1 && { warning: 'mind' }),
    });
    await reopen({ dispatch });
    const batch = await api.untilStatus(await api.startBatch(requestLines(2)), ENDED);
    const responses = (await api.lines(batch.output_file_id)).map(({ response }: { response: object }) => response);
    expect(responses).toEqual([
      { status_code: 200, request_id: expect.any(String), body: { number: 0 } },
      { status_code: 200, request_id: expect.any(String), body: { number: 1 }, warning: 'mind' },
    ]);
  });

  it('fails by naming the lines that are no requests, before any is answered', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch });
    const id = await api.startBatch(`${requestLine('a', {})}\n{"custom_id":\n${requestLine('a', {})}\n`);
    const batch = await api.untilStatus(id, ENDED);
    expect(batch).toMatchObject({ status: 'failed', output_file_id: null, error_file_id: null, in_progress_at: null });
    expect(batch.errors).toMatchObject({
      object: 'list',
      data: [
        { code: 'invalid_json_line', line: 2, param: null },
        { code: 'duplicate_custom_id', line: 3, param: 'custom_id' },
      ],
    });
    expect(batch.failed_at).toBeGreaterThan(0);
    expect(held.asked).toEqual([]);
  });

  it.each([
    '/v1/completions',
    '/v1/cartridge/chat/completions',
    '/v1/cartridge/completions',
    '/custom/cartridge/chat/completions',
  ])('may be for %s', async (endpoint) => {
    const id = await api.startBatch(requestLine('a', { x: 1 }, { url: endpoint }), { endpoint });
    const batch = await api.untilStatus(id, ENDED);
    expect((await api.lines(batch.output_file_id))[0].response.body).toMatchObject({ path: endpoint });
  });

  it.each([
    ['endpoint', { endpoint: '/v1/cartridges' }],
    ['endpoint', { endpoint: '/v1/batches' }],
    ['completion_window', { completion_window: 'soon' }],
    ['completion_window', { completion_window: '0h' }],
    ['completion_window', { completion_window: '8d' }],
    ['metadata', { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, 'v'])) }],
    ['metadata.long', { metadata: { long: 'x'.repeat(513) } }],
    ['priority', { priority: 1 }],
    ['output_expires_after.seconds', { output_expires_after: { anchor: 'created_at', seconds: 5 } }],
  ])('is refused by naming %s', async (param, fields) => {
    const { json: file } = await api.upload(requestLines(1));
    const json = { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h', ...fields };
    const { status, json: answer } = await api.call('POST', '/v1/batches', { json });
    expect(status).toBe(400);
    expect(answer.error.param).toBe(param);
  });

  it('needs a file of the caller that is for batches', async () => {
    const { json: file } = await api.upload('x', { purpose: 'user_data' });
    const order = (id: string) => ({ json: { input_file_id: id, endpoint: '/v1/chat/completions', completion_window: '24h' } });
    const wrong = await api.call('POST', '/v1/batches', order(file.id));
    expect(wrong).toMatchObject({ status: 400, json: { error: { param: 'input_file_id' } } });
    expect((await api.call('POST', '/v1/batches', order('file-0'))).status).toBe(404);
    expect((await api.call('POST', '/v1/batches', { ...order(file.id), scope: 'bob' })).status).toBe(404);
  });

  it('keeps its input from being deleted until it has ended', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch });
    const id = await api.startBatch(requestLines(1));
    const { input_file_id: file } = (await api.call('GET', `/v1/batches/${id}`)).json;
    expect((await api.call('DELETE', `/v1/files/${file}`)).status).toBe(409);
    await until(() => held.asked[0]);
    held.release();
    await api.untilStatus(id, ENDED);
    expect((await api.call('DELETE', `/v1/files/${file}`)).json).toEqual({ id: file, object: 'file', deleted: true });
    expect((await api.call('GET', `/v1/files/${file}`)).status).toBe(404);
  });

  it('fails when its key is gone, and gives what was answered before', async () => {
    let known = true;
    const held = new HeldDispatch();
    await reopen({
      dispatch: held.dispatch,
      limits: { concurrentRequests: 1 },
      callerOf: (scope) => (known ? callerOf(scope) : undefined),
    });
    const id = await api.startBatch(requestLines(3));
    await until(() => held.asked[0]);
    known = false;
    held.release();
    const batch = await api.untilStatus(id, ENDED);
    expect(batch).toMatchObject({ status: 'failed', errors: { data: [{ code: 'key_revoked' }] } });
    expect(numbersOf(await api.lines(batch.output_file_id))).toEqual([0]);
    expect((await api.lines(batch.error_file_id)).map(({ error }) => error.code)).toEqual(['batch_failed', 'batch_failed']);
  });

  it('fails when the key has no room for its answers', async () => {
    const dispatch: Dispatch = async () => ({ status: 200, body: 'x'.repeat(1000) });
    await reopen({ dispatch, limits: { maxKeyBytes: 10_000, concurrentRequests: 1 } });
    const batch = await api.untilStatus(await api.startBatch(requestLines(20)), ENDED);
    expect(batch).toMatchObject({ status: 'failed', errors: { data: [{ code: 'storage_full' }] } });
    expect(batch.request_counts.completed).toBeGreaterThan(2);
    expect(await api.lines(batch.output_file_id)).toHaveLength(batch.request_counts.completed);
  });

  it('expires with its window, and says of every request that was not answered', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits: { concurrentRequests: 2 } });
    const id = await api.startBatch(requestLines(4), { completion_window: '1s' });
    await until(() => held.asked[1]);
    held.release();
    const batch = await api.untilStatus(id, ENDED);
    expect(batch).toMatchObject({ status: 'expired', request_counts: { total: 4, completed: 1, failed: 0 } });
    expect(batch.expired_at).toBeGreaterThanOrEqual(batch.expires_at);
    expect(numbersOf(await api.lines(batch.output_file_id))).toEqual([0]);
    const errors = await api.lines(batch.error_file_id);
    expect(errors.map(({ custom_id, error }) => [custom_id, error.code])).toEqual([
      ['r1', 'batch_expired'],
      ['r2', 'batch_expired'],
      ['r3', 'batch_expired'],
    ]);
    expect(held.underWay).toBe(0);
  });
});

describe('cancelling', () => {
  it('stops what is under way and keeps what was answered', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits: { concurrentRequests: 2 } });
    const id = await api.startBatch(requestLines(5));
    await until(() => held.asked[1]);
    held.release();
    await until(async () => (await api.call('GET', `/v1/batches/${id}`)).json.request_counts.completed || undefined);
    const cancelling = await api.call('POST', `/v1/batches/${id}/cancel`);
    expect(cancelling).toMatchObject({ status: 200, json: { status: 'cancelling' } });
    const batch = await api.untilStatus(id, ENDED);
    expect(batch).toMatchObject({ status: 'cancelled', request_counts: { total: 5, completed: 1, failed: 0 } });
    expect(batch.cancelled_at).toBeGreaterThanOrEqual(batch.cancelling_at);
    expect(numbersOf(await api.lines(batch.output_file_id))).toEqual([0]);
    expect(await api.lines(batch.error_file_id)).toHaveLength(4);
    expect(held.underWay).toBe(0);
    expect((await api.call('POST', `/v1/batches/${id}/cancel`)).json.status).toBe('cancelled');
  });

  it('ends a batch that waits for its turn', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits: { runningBatches: 1 } });
    const first = await api.startBatch(requestLines(1));
    const second = await api.startBatch(requestLines(1));
    await until(() => held.asked[0]);
    expect((await api.call('GET', `/v1/batches/${second}`)).json.status).toBe('validating');
    await api.call('POST', `/v1/batches/${second}/cancel`);
    const batch = await api.untilStatus(second, ENDED);
    expect(batch).toMatchObject({ status: 'cancelled', output_file_id: null, error_file_id: null });
    held.release();
    expect(await api.untilStatus(first, ENDED)).toMatchObject({ status: 'completed' });
  });

  it('is refused when the batch has ended', async () => {
    const id = await api.startBatch(requestLines(1));
    await api.untilStatus(id, ENDED);
    expect((await api.call('POST', `/v1/batches/${id}/cancel`)).status).toBe(409);
    expect((await api.call('POST', '/v1/batches/batch_0/cancel')).status).toBe(404);
  });
});

describe('many batches', () => {
  it('share the slots, keys taking turns', async () => {
    const held = new HeldDispatch();
    const order: string[] = [];
    const dispatch: Dispatch = (path, body, caller, signal) => {
      order.push(caller.scope);
      return held.dispatch(path, body, caller, signal);
    };
    await reopen({ dispatch, limits: { concurrentRequests: 1 } });
    const ids = [
      await api.startBatch(requestLines(4)),
      await api.startBatch(requestLines(4)),
      await api.startBatch(requestLines(4), { scope: 'bob' }),
    ];
    await until(() => order[0]);
    // All three have reached the queue before the first slot is given on.
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (let answered = 1; answered <= 12; answered++) {
      held.release();
      await until(() => (order.length > answered || answered === 12 ? true : undefined));
    }
    await Promise.all(ids.map((id, index) => api.untilStatus(id, ENDED, index === 2 ? 'bob' : 'alice')));
    expect(held.most).toBe(1);
    expect(order.slice(0, 8).filter((scope) => scope === 'bob').length).toBeGreaterThanOrEqual(3);
  });

  it('of one key are bounded while they are unfinished', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits: { maxUnfinishedBatches: 2 } });
    await api.startBatch(requestLines(1));
    await api.startBatch(requestLines(1));
    await expect(api.startBatch(requestLines(1))).rejects.toThrow(/unfinished/);
    await api.startBatch(requestLines(1), { scope: 'bob' });
  });

  it('of one key are refused when it may have no more files, with those that the others will write', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits: { maxFiles: 4 } });
    const id = await api.startBatch(requestLines(1));
    const { json: file } = await api.upload(requestLines(1));
    const json = { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' };
    const refused = await api.call('POST', '/v1/batches', { json });
    expect([refused.status, refused.json.error.message]).toEqual([429, expect.stringMatching(/2 of the 4 files .* 2 more/)]);
    expect((await api.upload('x')).status).toBe(429);
    await until(() => held.asked[0]);
    held.release();
    await api.untilStatus(id, ENDED);
    expect((await api.upload('x')).status).toBe(200);
    expect((await api.upload('x')).status).toBe(429);
    expect((await api.call('GET', '/v1/files')).json.data).toHaveLength(4);
  });

  it('are listed in pages, the newest first, and the oldest finished are forgotten', async () => {
    await reopen({ limits: { maxFinishedBatches: 3 } });
    const ids: string[] = [];
    for (let index = 0; index < 5; index++) {
      ids.unshift(await api.startBatch(requestLines(1)));
      await api.untilStatus(ids[0]!, ENDED);
    }
    const first = (await api.call('GET', '/v1/batches?limit=2')).json;
    expect(first).toMatchObject({ object: 'list', first_id: ids[0], last_id: ids[1], has_more: true });
    const rest = (await api.call('GET', `/v1/batches?after=${ids[1]}`)).json;
    expect(rest.data.map(({ id }: { id: string }) => id)).toEqual(ids.slice(2, 4));
    expect(rest.has_more).toBe(false);
    expect((await api.call('GET', `/v1/batches/${ids[4]}`)).status).toBe(404);
    expect((await api.call('GET', '/v1/batches?limit=101')).status).toBe(400);
  });
});

describe('a restart', () => {
  it('goes on with a batch where it was, and does nothing twice', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits: { concurrentRequests: 3 } });
    const id = await api.startBatch(requestLines(10));
    const waiting = await api.startBatch(requestLines(2, 's'));
    await until(() => held.asked[2]);
    held.release(2);
    await until(async () => (await api.call('GET', `/v1/batches/${id}`)).json.request_counts.completed === 2 || undefined);
    const asked: unknown[] = [];
    await reopen({
      dispatch: (path, body, caller) => {
        asked.push(body);
        return echo(path, body, caller);
      },
    });
    expect(held.underWay).toBe(0);
    const batch = await api.untilStatus(id, ENDED);
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 10, completed: 10, failed: 0 } });
    expect(numbersOf(await api.lines(batch.output_file_id))).toEqual(Array.from({ length: 10 }, (_, index) => index));
    await api.untilStatus(waiting, ENDED);
    expect(asked).toHaveLength(10);
  });

  it('ends a batch that was being ended, as what it was to be', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch });
    const cancelled = await api.startBatch(requestLines(2));
    const expired = await api.startBatch(requestLines(2));
    await until(() => held.asked[3]);
    await api.close();
    const errorFileId = `file-${'e'.repeat(32)}`;
    await changeRecord(cancelled, { status: 'cancelling', cancellingAtMs: 1000 });
    await changeRecord(expired, { status: 'finalizing', outcome: 'expired', errorFileId, finalizingAtMs: 1000 });
    await reopen({});
    expect(await api.untilStatus(cancelled, ENDED)).toMatchObject({
      status: 'cancelled',
      cancelling_at: 1,
      output_file_id: null,
    });
    const batch = await api.untilStatus(expired, ENDED);
    expect(batch).toMatchObject({ status: 'expired', finalizing_at: 1, output_file_id: null, error_file_id: errorFileId });
    expect((await api.lines(errorFileId)).map(({ error }) => error.code)).toEqual(['batch_expired', 'batch_expired']);
  });

  it('ends a batch whose window is over, or whose key is gone', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch });
    const expired = await api.startBatch(requestLines(1), { completion_window: '1h' });
    const revoked = await api.startBatch(requestLines(1), { scope: 'bob' });
    await until(() => held.asked[1]);
    await reopen({ now: () => Date.now() + 2 * 3_600_000, callerOf: (scope) => (scope === 'bob' ? undefined : callerOf(scope)) });
    expect(await api.untilStatus(expired, ENDED)).toMatchObject({ status: 'expired' });
    expect(await api.untilStatus(revoked, ENDED, 'bob')).toMatchObject({ status: 'failed' });
  });

  it('forgets batches that ended long ago', async () => {
    const id = await api.startBatch(requestLines(1));
    await api.untilStatus(id, ENDED);
    await reopen({ now: () => Date.now() + 31 * 86_400_000 });
    expect((await api.call('GET', `/v1/batches/${id}`)).status).toBe(404);
    expect(await readdir(join(folder, 'batches'))).toEqual([]);
  });

  it('gives back the room of results, so that a key can use all of it again', async () => {
    const limits = { maxKeyBytes: 20_000 };
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits });
    const id = await api.startBatch(requestLines(3));
    await until(() => held.asked[2]);
    held.release(2);
    await until(async () => (await api.call('GET', `/v1/batches/${id}`)).json.request_counts.completed === 2 || undefined);
    await reopen({ limits });
    const batch = await api.untilStatus(id, ENDED);
    for (const file of [batch.input_file_id, batch.output_file_id]) {
      expect((await api.call('DELETE', `/v1/files/${file}`)).status).toBe(200);
    }
    expect((await api.upload('x'.repeat(20_000))).status).toBe(200);
    expect((await api.upload('x')).status).toBe(413);
  });
});

describe('an end that cannot be written', () => {
  const limits = { maxKeyBytes: 20_000 };
  const full = new CartridgesError('DISK_FULL', 'no space left');
  const cancel = (id: string) => api.call('POST', `/v1/batches/${id}/cancel`);
  const statusOf = async (id: string) => (await api.call('GET', `/v1/batches/${id}`)).json.status;
  const untilWarned = () => until(() => api.warnings.find((message) => message.includes('tried again')));

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  /** What every file took is free again, and not more. */
  async function expectAllRoomFree(): Promise<void> {
    for (const { id } of (await api.call('GET', '/v1/files')).json.data) await api.call('DELETE', `/v1/files/${id}`);
    expect((await api.upload('x'.repeat(limits.maxKeyBytes))).status).toBe(200);
    expect((await api.upload('x')).status).toBe(413);
  }

  it('is tried again with the next sweep', async () => {
    const { publish } = FileStore.prototype;
    vi.spyOn(FileStore.prototype, 'publish').mockImplementation(function (this: FileStore, ...given) {
      const isError = given[1].filename.endsWith('_error.jsonl') && api.warnings.length === 0;
      return isError ? Promise.reject(full) : publish.apply(this, given);
    });
    const dispatch: Dispatch = async (_path, body) => ({ status: (body as { number: number }).number === 0 ? 200 : 400, body });
    await reopen({ dispatch, limits });
    const id = await api.startBatch(requestLines(2));
    await untilWarned();
    expect(await statusOf(id)).toBe('finalizing');
    await vi.advanceTimersByTimeAsync(3_600_000);
    const batch = await api.untilStatus(id, ENDED);
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 2, completed: 1, failed: 1 } });
    expect(numbersOf(await api.lines(batch.output_file_id))).toEqual([0]);
    expect(numbersOf(await api.lines(batch.error_file_id))).toEqual([1]);
    expect(await readdir(join(folder, 'incoming'))).toEqual([]);
    await expectAllRoomFree();
  });

  it('is tried again when its batch is to be cancelled', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits });
    const failing = vi.spyOn(FileStore.prototype, 'beginOutput').mockRejectedValue(full);
    const completed = await api.startBatch(requestLines(1));
    await until(() => held.asked[0]);
    held.release();
    await untilWarned();
    const cancelled = await api.startBatch(requestLines(1));
    await until(() => held.asked[1]);
    await cancel(cancelled);
    await until(() => api.warnings[1]);
    expect([await statusOf(completed), await statusOf(cancelled)]).toEqual(['finalizing', 'cancelling']);
    failing.mockRestore();
    expect((await cancel(completed)).status).toBe(409);
    expect((await cancel(cancelled)).status).toBe(200);
    expect(await api.untilStatus(completed, ENDED)).toMatchObject({ status: 'completed' });
    expect(await api.untilStatus(cancelled, ENDED)).toMatchObject({ status: 'cancelled' });
    await expectAllRoomFree();
  });

  it('takes no room for a result that could not be written', async () => {
    await reopen({ limits });
    vi.spyOn(ResultsLog.prototype, 'append').mockRejectedValueOnce(full);
    const batch = await api.untilStatus(await api.startBatch(requestLines(1)), ENDED);
    expect(batch).toMatchObject({ status: 'failed', errors: { data: [{ code: 'disk_full' }] } });
    await expectAllRoomFree();
  });
});

describe('isolation', () => {
  it('answers for what belongs to another key as for what is not there', async () => {
    const id = await api.startBatch(requestLines(1));
    const batch = await api.untilStatus(id, ENDED);
    const routes = (file: string, one: string) =>
      [
        ['GET', `/v1/files/${file}`],
        ['GET', `/v1/files/${file}/content`],
        ['DELETE', `/v1/files/${file}`],
        ['GET', `/v1/files?after=${file}`],
        ['GET', `/v1/batches/${one}`],
        ['POST', `/v1/batches/${one}/cancel`],
        ['GET', `/v1/batches?after=${one}`],
      ] as [string, string][];
    const missing = routes(`file-${'0'.repeat(32)}`, `batch_${'0'.repeat(32)}`);
    for (const file of [batch.input_file_id, batch.output_file_id]) {
      for (const [index, [method, path]] of routes(file, id).entries()) {
        const foreign = await api.call(method, path, { scope: 'mallory' });
        const nothing = await api.call(missing[index]![0], missing[index]![1], { scope: 'mallory' });
        const anonymous = (text: string) => text.replaceAll(/(file-|batch_)[0-9a-f]{32}/g, '$1…');
        expect([foreign.status, anonymous(foreign.text)]).toEqual([404, anonymous(nothing.text)]);
        expect([...foreign.headers]).toEqual([...nothing.headers]);
      }
    }
    expect((await api.call('GET', '/v1/files', { scope: 'mallory' })).json.data).toEqual([]);
    expect((await api.call('GET', '/v1/batches', { scope: 'mallory' })).json.data).toEqual([]);
    expect((await api.call('GET', `/v1/files/${batch.output_file_id}`)).status).toBe(200);
  });
});

describe('synchronous batches', () => {
  const PATHS = ['/custom/synchronous-batch-completions', '/custom/cartridge/synchronous-batch-completions'];

  it.each([
    [PATHS[0]!, '/v1/chat/completions'],
    [PATHS[1]!, '/custom/cartridge/chat/completions'],
  ])('%s answers in the order of the requests, with errors in their place', async (path, target) => {
    const dispatch: Dispatch = async (asked, body, caller) => {
      const { number } = body as { number: number };
      await new Promise((resolve) => setTimeout(resolve, 10 - number));
      if (number === 2) return { status: 400, body: { error: { message: 'wrong' } } };
      return echo(asked, body, caller);
    };
    await reopen({ dispatch });
    const requests = Array.from({ length: 5 }, (_, number) => ({ number }));
    const { status, json } = await api.call('POST', path, { json: { requests }, scope: 'bob' });
    expect(status).toBe(200);
    expect(json[2]).toEqual({ error: { message: 'wrong' } });
    for (const number of [0, 1, 3, 4]) expect(json[number]).toEqual({ path: target, echo: { number }, scope: 'bob' });
  });

  it('are bounded in number and at a time, and stop with the client', async () => {
    const held = new HeldDispatch();
    await reopen({ dispatch: held.dispatch, limits: { maxSynchronousRequests: 4, concurrentSynchronousRequests: 2 } });
    for (const requests of [[], Array(5).fill({}), 'x', [1]]) {
      expect((await api.call('POST', PATHS[0]!, { json: { requests } })).status).toBe(400);
    }
    expect((await api.call('POST', PATHS[0]!, { json: { requests: [{}], more: 1 } })).json.error.param).toBe('more');
    const client = new AbortController();
    const answer = api.call('POST', PATHS[0]!, { json: { requests: Array(4).fill({}) }, signal: client.signal });
    await until(() => held.asked[1]);
    client.abort();
    expect((await answer).status).toBe(503);
    expect(held).toMatchObject({ underWay: 0, most: 2 });
  });
});
