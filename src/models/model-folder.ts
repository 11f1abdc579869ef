import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { CartridgesError } from '../core/errors.js';

const recommendationsSchema = z.strictObject({
  /** Longest piece of the corpus that a conversation should be about. */
  chunkMaxTokens: z.int().min(16).optional(),
  questionMaxTokens: z.int().min(1).optional(),
  answerMaxTokens: z.int().min(1).optional(),
  /** Answered tokens that are asked for, for each token of the corpus: more for a model that repeats its questions. */
  answeredTokensPerCorpusToken: z.number().gt(0).max(1_000).optional(),
  /** False for a model whose cut answers are ones that it could not end. */
  keepTruncated: z.boolean().optional(),
  /** For a model that guesses what its text does not say, and is unsure of it: answers with a less probable token are left out. */
  minTokenProbability: z.number().min(0).max(1).optional(),
  learningRate: z.number().gt(0).optional(),
  /** Supervised tokens of an update that the learning rate belongs to. */
  batchTokens: z.int().min(1).optional(),
  /** Tokens of a pack: small ones let a short time be used for more updates. */
  packTokens: z.int().min(1).optional(),
});

/** Settings that suit one model better than the general defaults; `defaults.json` beside its GGUF holds them. */
export type ModelRecommendations = z.output<typeof recommendationsSchema>;

/** The recommendations beside a model, or none. Throws `INVALID_INPUT` for a file that is not of this form. */
export async function readModelRecommendations(modelPath: string): Promise<ModelRecommendations> {
  const path = join(dirname(modelPath), 'defaults.json');
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return {};
  try {
    return recommendationsSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new CartridgesError('INVALID_INPUT', `${path} does not hold settings of a model: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
