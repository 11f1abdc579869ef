import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { streamOf, temporaryFolder } from '../../../test/support/library-fixture.js';
import { receiveBody } from './receive-body.js';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let path: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  path = join(folder.path, 'body');
});
afterEach(() => folder.remove());

const bytes = randomBytes(100_000);
const NEVER = new AbortController().signal;

/** A body without an end, and how often it was asked for more. */
function endless(): { stream: ReadableStream<Uint8Array>; pulls: () => number; cancelled: () => boolean } {
  let pulls = 0;
  let cancelled = false;
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      pulls++;
      controller.enqueue(new Uint8Array(1000));
    },
    cancel() {
      cancelled = true;
    },
  });
  return { stream, pulls: () => pulls, cancelled: () => cancelled };
}

describe('receiveBody', () => {
  it('writes what comes and says its hash', async () => {
    const options = { maxBytes: bytes.length, signal: NEVER };
    const sha256 = await receiveBody({ stream: streamOf(bytes), announcedBytes: bytes.length }, path, options);
    expect(sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(bytes.equals(await readFile(path))).toBe(true);
  });

  it('refuses a body that announces too much before it reads any of it', async () => {
    const { stream, pulls } = endless();
    const receiving = receiveBody({ stream, announcedBytes: 1001 }, path, { maxBytes: 1000, signal: NEVER });
    await expect(receiving).rejects.toMatchObject({ status: 413 });
    expect(pulls()).toBeLessThanOrEqual(1);
  });

  it('stops reading a body without an end at the limit', async () => {
    const { stream, pulls, cancelled } = endless();
    await expect(receiveBody({ stream }, path, { maxBytes: 10_000, signal: NEVER })).rejects.toMatchObject({ status: 413 });
    expect(pulls()).toBeLessThan(15);
    expect(cancelled()).toBe(true);
  });

  it.each([bytes.length - 1, bytes.length + 1])('refuses a body of another length than announced: %i', async (announcedBytes) => {
    const options = { maxBytes: 1e6, signal: NEVER };
    const receiving = receiveBody({ stream: streamOf(bytes), announcedBytes }, path, options);
    await expect(receiving).rejects.toMatchObject({ status: 400 });
  });

  it('ends with the signal, also while nothing comes', async () => {
    const controller = new AbortController();
    const stream = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => {}) });
    const receiving = receiveBody({ stream }, path, { maxBytes: 1e6, signal: controller.signal });
    setTimeout(() => controller.abort(), 5);
    await expect(receiving).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('passes on what broke the connection', async () => {
    const stream = new ReadableStream<Uint8Array>({
      pull: () => Promise.reject(new Error('connection lost')),
    });
    await expect(receiveBody({ stream }, path, { maxBytes: 1e6, signal: NEVER })).rejects.toThrow('connection lost');
  });
});
