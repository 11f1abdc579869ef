import { readGguf } from '../../src/models/gguf.js';
import { readGolden, rowsByLayer } from '../../test/support/golden.js';
import { goldenPack, goldenStepOptions } from '../../test/support/golden-pack.js';
import type { StepSubject } from './step-outcome.js';

/** A golden model with the numbers of PyTorch. */
export function goldenSubject(name: string): StepSubject {
  const golden = readGolden(name);
  const gradient = (part: string) => rowsByLayer(golden, `gradient.token_mean.${part}`, golden.cartridge.rows);
  return {
    name,
    gguf: readGguf(golden.path),
    packs: [goldenPack(golden)],
    options: goldenStepOptions(golden, 'token-mean'),
    learningRate: golden.adam.learning_rate,
    reference: {
      gradients: { keys: gradient('keys'), values: gradient('values') },
      lossAfter: golden.adam.token_mean.loss_after,
    },
  };
}
