import { describe, expect, it } from 'vitest';
import { CartridgesError } from '../../core/errors.js';
import { toErrorBody } from '../error-response.js';
import { answerPatiently } from './answer-patiently.js';

const policy = { attempts: 3, delayMs: 1 };
const warn = () => {};
const NEVER = new AbortController().signal;

describe('answerPatiently', () => {
  it.each([429, 503])('asks again on %i', async (status) => {
    const statuses = [status, status, 200];
    const answer = await answerPatiently(async () => ({ status: statuses.shift()!, body: {} }), { policy, signal: NEVER, warn });
    expect(answer.status).toBe(200);
  });

  it('gives the last answer of a server that stays busy', async () => {
    let asked = 0;
    const answer = await answerPatiently(async () => ({ status: 429, body: ++asked }), { policy, signal: NEVER, warn });
    expect(answer).toEqual({ status: 429, body: 3 });
  });

  it('asks again when the engine failed, and not when the server has a fault', async () => {
    const failures = [toErrorBody(new CartridgesError('ENGINE_FAILURE', 'no')), toErrorBody(new Error('a fault'))];
    const asked: unknown[] = [];
    const ask = async () => {
      const body = failures[Math.min(asked.length, 1)];
      asked.push(body);
      return { status: 500, body };
    };
    expect(await answerPatiently(ask, { policy, signal: NEVER, warn })).toEqual({ status: 500, body: failures[1] });
    expect(asked).toEqual(failures);
  });

  it('gives up a request with which the engine fails again and again', async () => {
    let asked = 0;
    const body = toErrorBody(new CartridgesError('ENGINE_FAILURE', 'no'));
    const ask = async () => ({ status: 500, body, asked: ++asked });
    await answerPatiently(ask, { policy: { attempts: 9, delayMs: 1 }, signal: NEVER, warn });
    expect(asked).toBe(3);
  });

  it('takes other refusals as they are', async () => {
    let asked = 0;
    const answer = await answerPatiently(async () => ({ status: 400, body: ++asked }), { policy, signal: NEVER, warn });
    expect(answer).toEqual({ status: 400, body: 1 });
  });

  it('answers 500 without the reason when asking throws, and tells the reason here', async () => {
    const warnings: string[] = [];
    const ask = async () => {
      throw new Error('/secret/path is gone');
    };
    const answer = await answerPatiently(ask, { policy, signal: NEVER, warn: (message) => warnings.push(message) });
    expect(answer.status).toBe(500);
    expect(JSON.stringify(answer)).not.toContain('secret');
    expect(warnings.join()).toContain('/secret/path');
  });

  it('counts what was broken off as no answer, and what was complete as one', async () => {
    const client = new AbortController();
    client.abort();
    const during = new AbortController();
    const ask = (status: number) => async () => {
      during.abort();
      return { status, body: {} };
    };
    const options = { policy, warn };
    await expect(answerPatiently(ask(200), { ...options, signal: client.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(answerPatiently(ask(503), { ...options, signal: during.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
    const fresh = new AbortController();
    const complete = async () => {
      fresh.abort();
      return { status: 200, body: {} };
    };
    expect(await answerPatiently(complete, { ...options, signal: fresh.signal })).toEqual({ status: 200, body: {} });
  });
});
