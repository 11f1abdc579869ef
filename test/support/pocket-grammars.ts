import { GrammarFactory } from '../../src/inference/grammar/grammar-constraint.js';
import { LanguageModel } from '../../src/inference/language-model.js';

/** The pocket model on one thread, and grammars over its tokens. */
export class PocketGrammars {
  readonly model: LanguageModel;
  readonly factory: GrammarFactory;

  private constructor(model: LanguageModel) {
    this.model = model;
    this.factory = new GrammarFactory(model);
  }

  static async load(): Promise<PocketGrammars> {
    return new PocketGrammars(await LanguageModel.load({ modelPath: 'models/pocket/pocket.gguf', device: 'cpu', threads: 1 }));
  }

  /** Whether a text may be generated, up to its end, under a grammar. */
  allows(grammar: string, text: string): boolean {
    const { tokenizer } = this.model;
    const constraint = this.factory.parse(grammar);
    try {
      for (const token of tokenizer.encode(text)) {
        if (!constraint.allows(token)) return false;
        constraint.accept(token);
      }
      return constraint.allows(tokenizer.eosToken!);
    } finally {
      constraint.dispose();
    }
  }

  dispose(): Promise<void> {
    return this.model.dispose();
  }
}
