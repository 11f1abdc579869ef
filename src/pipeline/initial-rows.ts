import { readFile } from 'node:fs/promises';
import { readCartridgeHeader } from '../cartridge/cartridge-file.js';
import { checkAvailableRows, type InitializerName, initializeRows } from '../cartridge/initializers/initialize.js';
import { describeParent } from '../cartridge/lineage.js';
import { rethrow } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { Random } from '../core/random.js';
import type { FrozenModel } from '../models/frozen-model.js';
import type { KeyValueRows } from '../models/run-forward.js';
import type { ModelSession } from './model-session.js';
import { openCartridge } from './open-cartridge.js';
import type { Settings } from './settings.js';

/** What the rows of a new cartridge start from, read and checked. Only computing them needs the student. */
export interface InitialRows {
  /** For the receipt, when the rows start from those of another cartridge. */
  parent?: Record<string, unknown>;
  compute(student: FrozenModel, options: RunOptions): Promise<KeyValueRows>;
}

/** Their rows are those of a system message of exactly that many tokens, so its framing must fit in. */
const FRAMED: readonly InitializerName[] = ['first-tokens', 'sampled-chunks', 'text'];

/**
 * Reads the files that the initializer names and checks that the rows can be had, before hours of self-study. Throws
 * `INVALID_OPTION` for too few rows, `FILE_NOT_FOUND`, and what {@link openCartridge} throws.
 */
export async function prepareInitialRows(
  session: ModelSession,
  corpusText: string,
  settings: Settings,
  tokenCount: number,
): Promise<InitialRows> {
  const { initializer, initializerText, initializerCartridge, allowQuantization } = settings.training;
  if (FRAMED.includes(initializer)) session.framing.encodeSystemPrefix('', tokenCount);
  const text = initializerText === undefined ? undefined : await readFile(initializerText, 'utf8').catch(rethrow);
  const opened =
    initializer === 'cartridge' && initializerCartridge !== undefined
      ? await openParent(initializerCartridge, session, allowQuantization)
      : undefined;
  const rows = opened?.cartridge;
  if (rows) checkAvailableRows(rows.tokenCount, tokenCount);
  return {
    ...(opened && { parent: opened.parent }),
    compute: (model, options) =>
      initializeRows(
        {
          name: initializer,
          model,
          framing: session.framing,
          tokenizer: session.tokenizer,
          corpusText,
          tokenCount,
          random: new Random(settings.seed).fork('initializer'),
          ...(text !== undefined && { text }),
          ...(rows && { rows }),
        },
        options,
      ),
  };
}

/** The cartridge whose rows come first, and what the receipt says of it. */
async function openParent(path: string, session: ModelSession, allowQuantization: boolean) {
  const { cartridge, quantizationDiffers } = await openCartridge(path, session, { allowQuantization });
  const { contentHash } = await readCartridgeHeader(path);
  const parent = { ...describeParent(cartridge, contentHash), ...(quantizationDiffers && { otherQuantization: true }) };
  return { cartridge, parent };
}
