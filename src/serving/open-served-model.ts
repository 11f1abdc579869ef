import { basename } from 'node:path';
import { readCartridgeHeader } from '../cartridge/cartridge-file.js';
import type { RunOptions } from '../core/progress.js';
import { kvBytesPerToken } from '../inference/inference-engine.js';
import { ModelSession } from '../pipeline/model-session.js';
import type { Settings } from '../pipeline/settings.js';
import { type CachePlan, describePlan, planCache } from './cache-plan.js';
import { chooseKeptTurnCells, countParameters } from './kept-turns.js';
import { namedCartridges } from './named-cartridges.js';
import type { ServedModel } from './served-model.js';

/** Settings that name a model. */
export type ServingSettings = Settings & { model: string };

export interface OpenedModel {
  session: ModelSession;
  plan: CachePlan;
  model: ServedModel;
}

/** Loads the model of a server with a cache that holds the named cartridges and as many users as have room. */
export async function openServedModel(settings: ServingSettings, run: RunOptions): Promise<OpenedModel> {
  const { model, device, threads, serving } = settings;
  const files = namedCartridges(serving);
  const session = await ModelSession.open({ model, device, threads }, run);
  try {
    const cartridges = await readCartridges(files);
    const plan = planCache({ ...serving, ...memoryOf(session), cartridges });
    const note = (message: string) => run.onProgress?.({ kind: 'note', stage: 'load', message });
    if (session.tuningAdvice) note(session.tuningAdvice);
    note(describePlan(plan));
    const { contextTokens } = plan;
    const engine = await session.createEngine({
      contextTokens,
      maxRequests: serving.maxRequests,
      retainTurns: true,
      keptTurnCells: serving.keptTurnTokens ?? chooseKeptTurnCells(session.config, countParameters(session.gguf)),
      storedTurnBytes: plan.storedTurnBytes,
    });
    const name = serving.modelName ?? basename(session.path).replace(/\.gguf$/i, '');
    const createdAt = Math.floor(Date.now() / 1000);
    return { session, plan, model: { name, createdAt, engine, framing: session.framing } };
  } catch (error) {
    await session.dispose();
    throw error;
  }
}

function readCartridges(files: ReadonlyMap<string, string>): Promise<{ id: string; tokenCount: number }[]> {
  return Promise.all([...files].map(async ([id, path]) => ({ id, tokenCount: (await readCartridgeHeader(path)).tokenCount })));
}

/** The weights are mapped from their file: their memory counts as free until they are used. */
function memoryOf({ config, languageModel, tuning }: ModelSession) {
  const { usesGpu, device, byteLength } = languageModel;
  const hostFreeBytes = Math.max(0, process.availableMemory() - byteLength);
  return {
    bytesPerToken: kvBytesPerToken(languageModel.shape, tuning?.cacheType),
    modelTokens: config.contextLength,
    freeBytes: usesGpu ? Math.max(0, device.memoryFree - byteLength) : hostFreeBytes,
    hostFreeBytes,
    isCacheOnHost: !usesGpu,
  };
}
