import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/core/package.js';

const BESIDE_CHECKOUT = join(packageRoot, '..', 'shared', 'models', 'SmolLM2-135M-Instruct.Q4_1.gguf');

/** A SmolLM2-135M-Instruct GGUF for tests with a real model; it is too large for the repository. */
export const SMOLLM2_PATH = process.env['CARTRIDGES_TEST_MODEL'] || BESIDE_CHECKOUT;
export const HAS_SMOLLM2 = existsSync(SMOLLM2_PATH);

/** Ends the name of a test that needs the model. */
export const SMOLLM2_NOTE = HAS_SMOLLM2 ? '' : ' (skipped: set CARTRIDGES_TEST_MODEL to a SmolLM2-135M-Instruct GGUF)';
