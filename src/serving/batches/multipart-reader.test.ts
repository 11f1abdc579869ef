import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MultipartReader } from './multipart-reader.js';

const NEVER = new AbortController().signal;
const TYPE = 'multipart/form-data; boundary=xYz';

function streamOf(...chunks: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  return ReadableStream.from(chunks.map((chunk) => Buffer.from(chunk as string)));
}

async function readAll(reader: MultipartReader) {
  const parts: { name: string; filename: string | undefined; content: string }[] = [];
  try {
    for (let part = await reader.nextPart(); part; part = await reader.nextPart()) {
      const chunks: Uint8Array[] = [];
      for await (const bytes of reader.content()) chunks.push(bytes);
      parts.push({ ...part, content: Buffer.concat(chunks).toString('latin1') });
    }
  } finally {
    reader.close();
  }
  return parts;
}

const part = (disposition: string, content: string) =>
  `--xYz\r\nContent-Disposition: form-data; ${disposition}\r\n\r\n${content}\r\n`;

describe('MultipartReader', () => {
  it('reads what fetch writes', async () => {
    const form = new FormData();
    form.append('file', new Blob(['{"a":1}\r\n--x\r\n']), 'ä"ö\\.jsonl');
    form.append('purpose', 'batch');
    const request = new Request('http://localhost', { method: 'POST', body: form });
    const parts = await readAll(new MultipartReader(request.body, request.headers.get('content-type'), NEVER));
    expect(parts).toMatchObject([
      { name: 'file', content: '{"a":1}\r\n--x\r\n' },
      { name: 'purpose', filename: undefined, content: 'batch' },
    ]);
  });

  it('finds the same parts wherever the body is cut', async () => {
    const content = fc.string({ unit: fc.constantFrom('\r', '\n', '-', 'x', 'Y', 'z', 'a'), maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(content, fc.infiniteStream(fc.integer({ min: 1, max: 20 })), async (text, sizes) => {
        fc.pre(!`\r\n${text}`.includes('\r\n--xYz'));
        const body = Buffer.from(`before\r\n${part('name="file"; filename="f"', text)}${part('name=b', '2')}--xYz--\r\nbehind`);
        const chunks: Uint8Array[] = [];
        for (let at = 0; at < body.length; ) {
          const size = sizes.next().value as number;
          chunks.push(body.subarray(at, at + size));
          at += size;
        }
        expect(await readAll(new MultipartReader(streamOf(...chunks), TYPE, NEVER))).toEqual([
          { name: 'file', filename: 'f', content: text },
          { name: 'b', filename: undefined, content: '2' },
        ]);
      }),
    );
  });

  it('takes a body that ends right behind the closing boundary, and skips parts that nobody reads', async () => {
    const reader = new MultipartReader(
      streamOf(part('name="a"', 'long '.repeat(100)), part('name="b"', ''), '--xYz--'),
      TYPE,
      NEVER,
    );
    expect(await reader.nextPart()).toEqual({ name: 'a', filename: undefined });
    expect(await reader.nextPart()).toEqual({ name: 'b', filename: undefined });
    expect(await reader.nextPart()).toBeUndefined();
  });

  it.each([
    ['no boundary line', ['nothing here']],
    ['no closing boundary', [part('name="a"', 'x')]],
    ['half a closing boundary', [part('name="a"', 'x'), '--xYz-']],
    ['a part without a name', [part('filename="a"', 'x'), '--xYz--']],
    ['a head that goes on', ['--xYz\r\n', 'A: b\r\n'.repeat(17)]],
    ['a line of a head that goes on', ['--xYz\r\n', 'a'.repeat(10_000)]],
    ['dashes in place of a head', ['--xYz\r\n', '--', '--', '--']],
    ['something behind a boundary', [`--xYzoom\r\n${part('name="a"', 'x')}`]],
  ])('refuses a body with %s', async (_what, chunks) => {
    await expect(readAll(new MultipartReader(streamOf(...chunks), TYPE, NEVER))).rejects.toMatchObject({ status: 400 });
  });

  it.each([
    null,
    'application/json',
    'multipart/form-data',
    'multipart/form-data; boundary=',
    'text/multipart/form-data; boundary=a',
  ])('refuses the type %s', (type) => {
    expect(() => new MultipartReader(streamOf('x'), type, NEVER)).toThrow(/multipart/);
  });

  it('stops with the signal while it waits for more', async () => {
    const client = new AbortController();
    const reader = new MultipartReader(new ReadableStream(), TYPE, client.signal);
    const reading = readAll(reader);
    client.abort();
    await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
