import type { Cartridge } from '../../src/cartridge/cartridge.js';
import { normalRows } from '../../src/cartridge/initializers/random-rows.js';
import { Random } from '../../src/core/random.js';
import type { ModelSession } from '../../src/pipeline/model-session.js';

/** A cartridge of random rows: speed does not depend on what they say. */
export function randomCartridge(session: ModelSession, tokenCount: number): Cartridge {
  return {
    model: session.fingerprint,
    framing: { name: session.framing.name, hash: session.framing.hash },
    tokenCount,
    frozenCount: 1,
    ...normalRows(session.config, tokenCount, new Random(1)),
    receipt: { createdBy: 'bench', createdAt: new Date(0).toISOString(), initializer: 'random' },
  };
}
