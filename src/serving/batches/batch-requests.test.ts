import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { removeFolder, requestLine, temporaryFolder } from '../../../test/support/batch-fixture.js';
import { DEFAULT_BATCH_LIMITS } from './batch-limits.js';
import { readRequests, validateRequests } from './batch-requests.js';

const folder = await temporaryFolder();
afterAll(() => removeFolder(folder));
const limits = { ...DEFAULT_BATCH_LIMITS, maxRequests: 5, maxLineBytes: 5000 };
const input = { path: join(folder, 'in.jsonl'), endpoint: '/v1/chat/completions' as const, limits };

async function validate(content: string | Buffer) {
  await writeFile(input.path, content);
  return validateRequests(input);
}

describe('validateRequests', () => {
  it('counts requests and leaves empty lines out', async () => {
    expect(await validate(`${requestLine('a', { x: 1 })}\r\n\n  \t\n${requestLine('b', {})}`)).toEqual({ total: 2 });
    const read = [];
    for await (const request of readRequests(input)) read.push(request);
    expect(read).toMatchObject([
      { index: 0, customId: 'a', body: { x: 1 } },
      { index: 1, customId: 'b', body: {} },
    ]);
  });

  it.each([
    ['invalid_json_line', '{"custom_id": '],
    ['invalid_json_line', Buffer.from([0x22, 0xff, 0x22])],
    ['invalid_json_line', '['.repeat(200)],
    ['line_too_long', requestLine('b', { text: 'x'.repeat(5000) })],
    ['invalid_request', '[]'],
    ['invalid_request', '"text"'],
    ['invalid_request', requestLine('', {})],
    ['invalid_request', requestLine('b', 'text')],
    ['invalid_request', requestLine('b', [])],
    ['invalid_request', requestLine('b', {}, { method: 'GET' })],
    ['invalid_request', requestLine('b', {}, { priority: 1 })],
    ['mismatched_url', requestLine('b', {}, { url: '/v1/completions' })],
    ['mismatched_url', requestLine('b', {}, { url: '/v1/cartridges' })],
    ['duplicate_custom_id', requestLine('a', {})],
  ])('names a line as %s', async (code, line) => {
    const content = Buffer.concat([Buffer.from(`${requestLine('a', {})}\n\n`), Buffer.from(line as string), Buffer.from('\n')]);
    expect(await validate(content)).toMatchObject({ errors: [{ code, line: 3 }] });
  });

  it('refuses a file without requests, and one with too many', async () => {
    expect(await validate(' \n')).toMatchObject({ errors: [{ code: 'empty_file', line: null }] });
    const six = ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => requestLine(id, {})).join('\n');
    expect(await validate(six)).toMatchObject({ errors: [{ code: 'too_many_requests', line: null }] });
  });

  it('names no more wrong lines than somebody reads', async () => {
    const { errors } = (await validate('wrong\n'.repeat(10_000))) as { errors: unknown[] };
    expect(errors).toHaveLength(100);
  });
});
