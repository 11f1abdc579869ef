import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HAS_SMOLLM2, SMOLLM2_NOTE, SMOLLM2_PATH } from '../../../test/support/smollm2.js';
import { LanguageModel } from '../language-model.js';
import { GrammarFactory } from './grammar-constraint.js';
import { JSON_OBJECT_GRAMMAR } from './json-schema-grammar.js';

const MODELS = [
  { name: 'the pocket model', path: 'models/pocket/pocket.gguf', isThere: true },
  { name: `SmolLM2${SMOLLM2_NOTE}`, path: SMOLLM2_PATH, isThere: HAS_SMOLLM2 },
];

/** Grammars with texts after which every token is asked for. */
const STATES: [string, string, string[]][] = [
  ['JSON', JSON_OBJECT_GRAMMAR, ['', '{', '{"na', '{"a": ', '{"a": "b', '{"a": "\\', '{"a": [1', '{"a": 1}']],
  ['words', 'root ::= "the harbour" | "then" | "th" [a-z ]{2,5} "."', ['', 't', 'th', 'the', 'the ', 'then']],
  // Part of a character is refused where the whole might be allowed: libllama takes a class with é out of it that way.
  ['characters of several bytes', 'root ::= [^é]+ "🙂" | "été" | "naïve"', ['', 'a', 'à', 'ét', 'na']],
  ['white space', 'root ::= [ \\t\\n]+ "end"', ['', ' ', ' \n', '  e']],
];

describe.each(MODELS.filter(({ isThere }) => isThere))('$name', ({ path }) => {
  let model: LanguageModel;
  let grammars: GrammarFactory;
  beforeAll(async () => {
    model = await LanguageModel.load({ modelPath: path, device: 'cpu', threads: 1 });
    grammars = new GrammarFactory(model);
  });
  afterAll(() => model.dispose());

  it.each(STATES)('forbids exactly the tokens that it does not allow, one by one: %s', (_, grammar, texts) => {
    for (const text of texts) {
      const constraint = grammars.parse(grammar);
      for (const token of model.tokenizer.encode(text)) {
        expect(constraint.allows(token), `${text} by ${token}`).toBe(true);
        constraint.accept(token);
      }
      const logits = Float32Array.from({ length: model.tokenizer.vocabularySize }, (_, token) => token % 7);
      const before = logits.slice();
      const undo = constraint.forbid(logits);
      // One by one takes seconds of a large vocabulary.
      const asked = [...logits.keys()].filter((token) => logits.length < 10_000 || token % 13 === 0);
      const forbidden = asked.filter((token) => logits[token] === Number.NEGATIVE_INFINITY);
      expect(forbidden, JSON.stringify(text)).toEqual(asked.filter((token) => !constraint.allows(token)));
      expect(logits.some((logit) => logit !== Number.NEGATIVE_INFINITY)).toBe(true);
      undo();
      expect(logits).toEqual(before);
      constraint.dispose();
    }
  });
});
