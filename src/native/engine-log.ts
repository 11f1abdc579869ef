import { koffi, type LibraryHandle } from './koffi.js';
import type { Llama } from './llama.js';

const KEPT_LINES = 12;
const WARNING = 3;
const CONTINUATION = 5;

/**
 * Keeps the engine's last warnings and errors: the reason of a failed call is only said there. The callback runs on the main
 * thread, also for calls made on worker threads.
 */
export class EngineLog {
  #lines: string[] = [];
  #level = 0;

  constructor(llama: Llama) {
    const prototype = koffi.proto('void cartridges_log_callback(int level, const char *text, void *user)');
    const callback = koffi.register((level: number, text: string) => this.#receive(level, text), koffi.pointer(prototype));
    llama.llama_log_set(callback, null);
  }

  /** The kept lines, oldest first, joined for an error message; forgets them. */
  take(): string {
    const text = this.#lines.join('; ');
    this.#lines = [];
    return text;
  }

  #receive(level: number, text: string): void {
    if (level !== CONTINUATION) this.#level = level;
    if (this.#level < WARNING) return;
    const line = text.trim();
    if (line === '') return;
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
  }
}

/** ggml's last words before it aborts the process go to stderr with the place in its source. */
export function reportAborts(base: LibraryHandle): void {
  const prototype = koffi.proto('void cartridges_abort_callback(const char *text)');
  const callback = koffi.register((text: string) => process.stderr.write(`engine abort: ${text}\n`), koffi.pointer(prototype));
  base.func('void *ggml_set_abort_callback(void *cb)')(callback);
}
