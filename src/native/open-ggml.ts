import type { EngineFiles } from './engine-files.js';
import { bindGgml, type Ggml } from './ggml.js';
import { koffi } from './koffi.js';
import './structs.js';

/**
 * ggml for a worker thread: the libraries that the main thread loaded and checked, bound once more. What the engine logs reaches the
 * main thread from there too.
 */
export function openGgml({ base, ggml }: Pick<EngineFiles, 'base' | 'ggml'>): Ggml {
  return bindGgml(koffi.load(base, { global: true }), koffi.load(ggml, { global: true }));
}
