import type { RunOptions } from '../core/progress.js';
import type { TokenizedCorpus } from '../pipeline/corpus-source.js';
import type { ModelSession } from '../pipeline/model-session.js';
import type { Settings } from '../pipeline/settings.js';
import { requireModel } from './settings.js';

/** Opens the model of a command with the device and threads of its settings, and frees it when `body` is done. */
export async function withSession<T>(
  settings: Settings,
  run: RunOptions,
  body: (session: ModelSession) => Promise<T>,
): Promise<T> {
  const model = requireModel(settings);
  const { ModelSession } = await import('../pipeline/model-session.js');
  const session = await ModelSession.open({ model, device: settings.device, threads: settings.threads }, run);
  try {
    return await body(session);
  } finally {
    await session.dispose();
  }
}

/** The same with the text that a command is about. A wrong path is said before a large model is loaded. */
export async function withCorpus<T>(
  settings: Settings,
  source: string,
  run: RunOptions,
  body: (session: ModelSession, corpus: TokenizedCorpus) => Promise<T>,
): Promise<T> {
  requireModel(settings);
  const { readSource, tokenizeCorpus } = await import('../pipeline/corpus-source.js');
  const corpus = await readSource(source, run);
  return withSession(settings, run, (session) => body(session, tokenizeCorpus(corpus, session.tokenizer, run)));
}
