import { CartridgesError } from '../../core/errors.js';

/** Nearly lossless first, then the usual compromise, then whatever is closest to one of them. */
const PREFERRED_QUANTIZATIONS = ['Q8_0', 'Q4_K_M', 'Q6_K', 'Q5_K_M', 'Q5_K_S', 'Q4_K_S', 'Q4_0', 'BF16', 'F16', 'F32'];

/**
 * The file to take from a repository: the one with the name `wanted` or the only GGUF whose name contains it, without
 * `wanted` the GGUF of the best quantisation. Throws `INVALID_INPUT` that lists the choice when it is not clear.
 */
export function chooseModelFile(paths: readonly string[], wanted: string | undefined, repo: string): string {
  if (wanted !== undefined && paths.includes(wanted)) return checkWhole(wanted, repo);
  const models = paths.filter(isModelFile).sort();
  if (models.length === 0) {
    throw new CartridgesError('INVALID_INPUT', `${repo} has no GGUF file`, {
      hint: 'look for a repository of the same model whose name ends in -GGUF',
    });
  }
  if (wanted !== undefined) return checkWhole(onlyMatch(models, wanted, repo), repo);
  const whole = models.filter((path) => !isPart(path));
  return [...whole].sort((a, b) => rank(a) - rank(b))[0] ?? checkWhole(models[0] as string, repo);
}

/** A GGUF with a language model in it; projectors and importance matrices have other uses. */
export function isModelFile(path: string): boolean {
  return /\.gguf$/i.test(path) && !/(^|[/._-])(mmproj|imatrix)([._-]|$)/i.test(path);
}

function onlyMatch(models: readonly string[], wanted: string, repo: string): string {
  const matches = models.filter((path) => path.toLowerCase().includes(wanted.toLowerCase()));
  if (matches.length === 1) return matches[0] as string;
  const problem = matches.length === 0 ? `has no file ${wanted}` : `has ${matches.length} files that match ${wanted}`;
  throw new CartridgesError('INVALID_INPUT', `${repo} ${problem}`, {
    hint: `name one of: ${(matches.length === 0 ? models : matches).join(', ')}`,
  });
}

/** `…-00002-of-00003.gguf` is one part of a model. */
function isPart(path: string): boolean {
  return /-\d{5}-of-\d{5}\.gguf$/i.test(path);
}

function checkWhole(path: string, repo: string): string {
  if (!isPart(path)) return path;
  throw new CartridgesError('INVALID_INPUT', `${path} of ${repo} is one part of a model in several files`, {
    hint: 'take a smaller quantisation in one file, or join the parts with llama-gguf-split --merge and name the result',
  });
}

function rank(path: string): number {
  const name = path.toUpperCase();
  const index = PREFERRED_QUANTIZATIONS.findIndex((type) => new RegExp(`(^|[^A-Z0-9])${type}([^A-Z0-9_]|$)`).test(name));
  return index < 0 ? PREFERRED_QUANTIZATIONS.length : index;
}
