import { join } from 'node:path';
import { cacheFolder } from '../core/environment.js';
import { CartridgesError } from '../core/errors.js';
import { replaceFile } from '../core/files.js';
import type { RunOptions } from '../core/progress.js';
import { requantize } from '../inference/requantize.js';
import { type GgufFile, readGguf } from '../models/gguf.js';
import { resolveThreads } from '../native/devices.js';
import { ENGINE_VERSION, loadEngine } from '../native/engine.js';
import type { EngineTuning } from './engine-tuning.js';

/** Types that lose nothing, or no less, in a copy: whoever took such a file wants its exactness, or has what the copy would give. */
const UNCOPIED_TYPES: ReadonlySet<string> = new Set(['F32', 'F16', 'BF16', 'F64', 'I8', 'I16', 'I32', 'I64', 'Q8_0']);

/**
 * Whether a copy in Q8_0 may be faster. ggml multiplies many rows by Q8_0 in blocks; by several of the smaller types it does so
 * row by row, and the processor is twice as long at it.
 */
export function mayGainFromCopy(gguf: GgufFile): boolean {
  return [...gguf.tensors.values()].some(({ typeName }) => !UNCOPIED_TYPES.has(typeName));
}

/**
 * The GGUF that holds a model's weights in a form: the model's own file, or a copy in the cache folder, which is made when it is
 * first asked for. Rejects with `ENGINE_FAILURE` when it cannot be made.
 */
export async function weightsPath(
  gguf: GgufFile,
  weightsHash: string,
  form: EngineTuning['weights'],
  { onProgress }: RunOptions = {},
): Promise<string> {
  if (form === 'stored') return gguf.path;
  const path = join(cacheFolder(), 'weights', `${weightsHash}-${ENGINE_VERSION.llama}.${form}.gguf`);
  if (isWhole(path)) return path;
  onProgress?.({ kind: 'note', stage: 'load', message: `writing the weights in ${form} to ${path}, once` });
  await replaceFile(path, (_, temporary) =>
    requantize(loadEngine(), { from: gguf.path, to: temporary, type: 'Q8_0', threads: resolveThreads(0) }),
  );
  return path;
}

/** A damaged copy is made anew. */
function isWhole(path: string): boolean {
  try {
    return readGguf(path).tensors.size > 0;
  } catch (error) {
    if (CartridgesError.is(error)) return false;
    throw error;
  }
}
