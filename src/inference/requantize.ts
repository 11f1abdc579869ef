import { CartridgesError } from '../core/errors.js';
import type { Engine } from '../native/engine.js';
import { callAsync } from '../native/koffi.js';
import { FileType } from '../native/llama.js';

export interface RequantizeOptions {
  /** A GGUF that was checked: libllama trusts its header. */
  from: string;
  to: string;
  type: keyof typeof FileType;
  threads: number;
}

/**
 * Writes a copy of a GGUF with its matrices in another type; norms and biases stay as they are. Rejects with `ENGINE_FAILURE` and the
 * engine's reason, among them a full disk; what was written by then stays.
 */
export async function requantize({ llama, log }: Engine, { from, to, type, threads }: RequantizeOptions): Promise<void> {
  log.take();
  const status = await callAsync(llama.llama_model_quantize, from, to, {
    ...llama.llama_model_quantize_default_params(),
    ftype: FileType[type],
    nthread: threads,
    // The matrices are quantised already.
    allow_requantize: true,
  });
  if (status === 0) return;
  throw new CartridgesError('ENGINE_FAILURE', `the weights of ${from} could not be written as ${type}: ${log.take()}`, {
    hint: 'free some space on the disk of the cache folder',
  });
}
