import type { Cartridge } from '../../src/cartridge/cartridge.js';
import { initializeRows } from '../../src/cartridge/initializers/initialize.js';
import { Random } from '../../src/core/random.js';
import type { ModelSession } from '../../src/pipeline/model-session.js';
import { randomCartridge } from './cartridges.js';

/** An untrained cartridge of as many rows as the text has tokens: the model answers as if it had read the text. */
export async function textCartridge(session: ModelSession, text: string): Promise<Cartridge> {
  const { framing, tokenizer, fingerprint } = session;
  const tokenCount = framing.encodeSystemPrefix(text).length;
  const { keys, values } = await initializeRows(
    {
      name: 'first-tokens',
      model: await session.student('q8_0'),
      framing,
      tokenizer,
      corpusText: text,
      tokenCount,
      random: new Random(0),
    },
    {},
  );
  return {
    ...randomCartridge(1),
    model: fingerprint,
    framing: { name: framing.name, hash: framing.hash },
    tokenCount,
    keys,
    values,
  };
}
