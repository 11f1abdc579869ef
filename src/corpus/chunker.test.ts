import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chunkDocuments } from './chunker.js';
import type { Document } from './resource.js';

/** Pieces of up to five letters, each with the space before it; line ends and other white space on their own. */
const tokenizer = {
  encode: (text: string) => new Int32Array((text.match(/ ?[^\s]{1,5}|\s/gu) ?? []).length),
};

const countTokens = (text: string) => tokenizer.encode(text).length;

function document(text: string, id = 'doc.txt'): Document {
  return { id, text, metadata: {} };
}

function chunkTexts(text: string, minTokens: number, maxTokens: number): string[] {
  return chunkDocuments([document(text)], tokenizer, { minTokens, maxTokens }).map((chunk) => chunk.text);
}

const words = (count: number, word = 'word') => Array.from({ length: count }, () => word).join(' ');

describe('chunkDocuments', () => {
  it('keeps one paragraph a chunk when two do not fit', () => {
    const paragraphs = [words(15, 'one'), words(15, 'two'), words(15, 'three')];
    expect(chunkTexts(paragraphs.join('\n\n'), 10, 20)).toEqual(paragraphs);
  });

  it('packs small paragraphs together', () => {
    const paragraphs = Array.from({ length: 6 }, (_, n) => words(5, `p${n}`));
    expect(chunkTexts(paragraphs.join('\n\n'), 5, 20)).toEqual([
      paragraphs.slice(0, 3).join('\n\n'),
      paragraphs.slice(3).join('\n\n'),
    ]);
  });

  it('cuts a long paragraph at sentence ends', () => {
    const sentences = [`${words(9, 'one')}.`, `${words(9, 'Two')}.`, `${words(9, 'Three')}.`];
    expect(chunkTexts(sentences.join(' '), 0, 22)).toEqual([`${sentences[0]} ${sentences[1]}`, sentences[2]]);
  });

  it('fills a chunk below the minimum with sentences of the next paragraph', () => {
    const first = words(4, 'one');
    const second = [`${words(9, 'Two')}.`, `${words(9, 'Three')}.`];
    expect(chunkTexts(`${first}\n\n${second.join(' ')}`, 10, 20)).toEqual([`${first}\n\n${second[0]}`, second[1]]);
    expect(chunkTexts(`${first}\n\n${second.join(' ')}`, 4, 21)[0]).toBe(first);
  });

  it('reads a heading with many spaces behind it once', () => {
    const start = performance.now();
    chunkTexts(`# x${' '.repeat(400_000)}y\n\nz`, 0, 20);
    chunkTexts(`# x${' '.repeat(400_000)}\ny`, 0, 20);
    // A search that began anew at every space took a minute.
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it('starts chunks at headings and keeps a heading with its text', () => {
    const section = (name: string) => `\\section{${name}}\n${words(8, name)}.\n`;
    expect(chunkTexts(section('aa') + section('bb'), 5, 16)).toEqual([section('aa').trimEnd(), section('bb').trimEnd()]);
    const markdown = `${words(10, 'aa')}\n\n# Title\n\n${words(10, 'bb')}`;
    expect(chunkTexts(markdown, 5, 18)).toEqual([words(10, 'aa'), `# Title\n\n${words(10, 'bb')}`]);
  });

  it('cuts lines that have no sentences between them, and keeps indentation', () => {
    const lines = Array.from({ length: 8 }, (_, n) => `    line ${n} = value`);
    const chunks = chunkTexts(lines.join('\n'), 0, 22);
    expect(chunks.join('\n')).toBe(lines.join('\n'));
    expect(chunks.length).toBeGreaterThan(1);
  });

  it('does not mix documents, and names chunks by document and place', () => {
    const chunks = chunkDocuments([document('one two', 'a.txt'), document('\n\nthree', 'b.txt')], tokenizer, {
      minTokens: 0,
      maxTokens: 50,
    });
    expect(chunks.map(({ id, documentId, start, end }) => ({ id, documentId, start, end }))).toEqual([
      { id: 'a.txt:0-7', documentId: 'a.txt', start: 0, end: 7 },
      { id: 'b.txt:2-7', documentId: 'b.txt', start: 2, end: 7 },
    ]);
    expect(chunks[0].contentHash).toMatch(/^[0-9a-f]{64}$/);
  });

  it('leaves out documents without text', () => {
    expect(chunkDocuments([document(' \n ')], tokenizer, { minTokens: 0, maxTokens: 50 })).toEqual([]);
  });

  it('manages very many lines', () => {
    expect(chunkTexts('a,b\n'.repeat(150_000), 0, 2000).length).toBeGreaterThan(1);
  });

  it.each([
    [0, 15],
    [60, 50],
    [-1, 50],
  ])('refuses %i to %i tokens', (minTokens, maxTokens) => {
    expect(() => chunkTexts('text', minTokens, maxTokens)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
  });

  it('loses no text, keeps the limit and does not cut characters in two', () => {
    const piece = fc.constantFrom(
      'word',
      'A. ',
      'B! ',
      '\n',
      '\n\n',
      '# H\n',
      ' ',
      'x'.repeat(90),
      '🐝',
      '語。',
      '\\section{Q}\n',
      '\t',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 120 }), fc.integer({ min: 0, max: 30 }), (pieces, minTokens) => {
        const text = pieces.join('');
        const chunks = chunkDocuments([document(text)], tokenizer, { minTokens, maxTokens: 30 });
        let end = 0;
        for (const chunk of chunks) {
          expect(text.slice(end, chunk.start).trim()).toBe('');
          expect(text.slice(chunk.start, chunk.end)).toBe(chunk.text);
          expect(countTokens(chunk.text)).toBeLessThanOrEqual(30);
          expect(chunk.text).not.toMatch(/\p{Surrogate}/u);
          end = chunk.end;
        }
        expect(text.slice(end).trim()).toBe('');
      }),
      { numRuns: 300 },
    );
  });
});
