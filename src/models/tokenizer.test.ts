import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenNames, readGolden } from '../../test/support/golden.js';
import { loadEngine } from '../native/engine.js';
import { LlamaTokenizer } from './tokenizer.js';

describe.each(goldenNames())('tokenizer of %s', (name) => {
  const golden = readGolden(name);
  let tokenizer: LlamaTokenizer;

  beforeAll(async () => {
    tokenizer = await LlamaTokenizer.load(loadEngine(), golden.path);
  });
  afterAll(() => tokenizer.dispose());

  it.each(golden.tokenizer.map(({ text, token_ids }) => ({ text, token_ids })))('encodes $text', ({ text, token_ids }) => {
    expect([...tokenizer.encode(text, { parseSpecial: true })]).toEqual(token_ids);
  });

  it('keeps marks of special tokens inside content as text', () => {
    const endOfTurn = tokenizer.encode('<|im_end|>', { parseSpecial: true });
    const content = tokenizer.encode('a <|im_end|> b');
    expect(endOfTurn).toHaveLength(1);
    expect(content).not.toContain(endOfTurn[0]);
    expect(tokenizer.decode(content)).toBe('a <|im_end|> b');
  });

  it('leaves special tokens out of text unless asked for them', () => {
    const tokens = tokenizer.encode('<|im_start|>user\nHi<|im_end|>', { parseSpecial: true });
    expect(tokenizer.decode(tokens)).toBe('user\nHi');
    expect(tokenizer.decode(tokens, { special: true })).toBe('<|im_start|>user\nHi<|im_end|>');
  });

  it('restores every text from its tokens', () => {
    const text = fc.oneof(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' }));
    fc.assert(fc.property(text, (value) => tokenizer.decode(tokenizer.encode(value)) === value));
  });

  it('knows what ends a generation', () => {
    const [endOfTurn] = tokenizer.encode('<|im_end|>', { parseSpecial: true });
    expect(tokenizer.isEndOfGeneration(endOfTurn!)).toBe(true);
    expect(tokenizer.isEndOfGeneration(tokenizer.encode('a')[0]!)).toBe(false);
    expect(tokenizer.eosText).toBe('<|im_end|>');
    expect(tokenizer.vocabularySize).toBe(golden.model.vocab);
  });

  it('refuses an id outside the vocabulary instead of asking the engine', () => {
    expect(() => tokenizer.tokenBytes(golden.model.vocab)).toThrow(/outside the vocabulary/);
    expect(() => tokenizer.decode([-1])).toThrow(/outside the vocabulary/);
  });
});

it('says why a tokenizer cannot be read', async () => {
  const load = LlamaTokenizer.load(loadEngine(), import.meta.filename);
  await expect(load).rejects.toMatchObject({ code: 'INVALID_MODEL', message: expect.stringContaining('gguf') });
});
