import { join } from 'node:path';
import type { RunOptions } from '../core/progress.js';
import type { Settings } from '../pipeline/settings.js';
import { openCartridgeLibrary, type ServedCartridges } from './cartridges/open-cartridge-library.js';
import { createSources } from './cartridges/sources/create-sources.js';
import { namedCartridges } from './named-cartridges.js';
import type { OpenedModel } from './open-served-model.js';
import { libraryLimits } from './settable-limits.js';

/** Where the cartridges of a server lie that were not named. */
export function cartridgeFolderOf({ dataFolder, cartridgeFolder }: Settings['serving']): string {
  return cartridgeFolder ?? join(dataFolder, 'cartridges');
}

/** Opens the library of a server: the named cartridges, those in its folder, and where others may come from. */
export function openServedCartridges(
  { session, model }: OpenedModel,
  serving: Settings['serving'],
  { onProgress }: RunOptions,
): Promise<ServedCartridges> {
  const { sources, wandbEntity, wandbProject, allowQuantization } = serving;
  return openCartridgeLibrary({
    folder: cartridgeFolderOf(serving),
    engine: model.engine,
    session,
    files: namedCartridges(serving),
    sources: createSources(sources, { wandbEntity, wandbProject }),
    allowQuantization,
    limits: libraryLimits(serving),
    ...(onProgress && { onProgress }),
  });
}
