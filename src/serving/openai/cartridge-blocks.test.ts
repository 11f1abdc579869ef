import fc from 'fast-check';
import { expect, it } from 'vitest';
import { extractCartridgeBlocks } from './cartridge-blocks.js';

const reference = (id: string) => ({ id, source: 'local', force_redownload: false });
const block = (json: string) => `<cartridge>${json}</cartridge>`;

it('takes blocks out in their order and closes the gaps', () => {
  const text = `A\n\n${block('{"id": "x"}')}\n\nB\n${block('{"id": "y", "source": "huggingface", "force_redownload": true}')}`;
  expect(extractCartridgeBlocks(text, 'p')).toEqual({
    cartridges: [reference('x'), { id: 'y', source: 'huggingface', force_redownload: true }],
    text: 'A\n\nB',
  });
  expect(extractCartridgeBlocks(block(' {"id":"x"}\n'), 'p')).toEqual({ cartridges: [reference('x')], text: '' });
});

it('leaves a text without blocks as it is', () => {
  const texts = fc.string({ unit: fc.constantFrom('a', '\n', ' ', '<cartridge', '</cartridge>', '>') });
  fc.assert(
    fc.property(
      texts.filter((text) => !text.includes('<cartridge>')),
      (text) => {
        expect(extractCartridgeBlocks(text, 'p')).toEqual({ cartridges: [], text });
      },
    ),
  );
});

it.each([
  ['no JSON', block('x'), 'is not JSON'],
  ['another value', block('"x"'), 'is wrong'],
  ['no id', block('{}'), 'is wrong: id'],
  ['an unknown source', block('{"id": "x", "source": "ftp"}'), 'is wrong: source'],
  ['an unknown field', block('{"id": "x", "size": 1}'), 'size'],
  ['too much JSON', block(`{"id": "x"${' '.repeat(2048)}}`), 'longer than 2048'],
  ['deep JSON', block('['.repeat(1500)), 'is not JSON'],
  ['no end', '<cartridge>{"id": "x"}', 'is not closed'],
  ['a second opening', '<cartridge><cartridge>{"id": "x"}</cartridge>', 'is not JSON'],
])('refuses a block with %s', (_name, text, message) => {
  expect(() => extractCartridgeBlocks(text, 'messages[0].content')).toThrow(
    expect.objectContaining({ status: 400, param: 'messages[0].content', message: expect.stringContaining(message) }),
  );
});

it('is done with many openings in no time', () => {
  const start = performance.now();
  expect(() => extractCartridgeBlocks('<cartridge>'.repeat(100_000), 'p')).toThrow('is not closed');
  expect(performance.now() - start).toBeLessThan(1000);
});
