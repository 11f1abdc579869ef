import type { RunOptions } from '../core/progress.js';
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
