import { join } from 'node:path';
import type { RunOptions } from '../core/progress.js';
import type { Settings } from '../pipeline/settings.js';
import { openCartridgeLibrary, type ServedCartridges } from './cartridges/open-cartridge-library.js';
import { createSources } from './cartridges/sources/create-sources.js';
import { namedCartridges } from './named-cartridges.js';
import type { OpenedModel } from './open-served-model.js';

/** Opens the library of a server: the named cartridges, those in its folder, and where others may come from. */
export function openServedCartridges(
  { session, model }: OpenedModel,
  serving: Settings['serving'],
  { onProgress }: RunOptions,
): Promise<ServedCartridges> {
  const { dataFolder, cartridgeFolder, sources, wandbEntity, wandbProject, allowQuantization } = serving;
  const { maxUploadBytes: maxFileBytes, uploadSeconds } = serving;
  return openCartridgeLibrary({
    folder: cartridgeFolder ?? join(dataFolder, 'cartridges'),
    engine: model.engine,
    session,
    files: namedCartridges(serving),
    sources: createSources(sources, { wandbEntity, wandbProject }),
    allowQuantization,
    limits: { maxFileBytes, uploadSeconds, downloadSeconds: uploadSeconds },
    ...(onProgress && { onProgress }),
  });
}
