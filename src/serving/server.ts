import { join } from 'node:path';
import type { OpenAPIHono } from '@hono/zod-openapi';
import { CartridgesError } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { createApp } from './app.js';
import { LOCAL_CALLER } from './auth/authenticate.js';
import { KeyRing } from './auth/key-ring.js';
import { type Batches, openBatches } from './batches/open-batches.js';
import { SYNCHRONOUS_BATCH_PATHS } from './batches/synchronous-routes.js';
import type { CachePlan } from './cache-plan.js';
import type { Caller } from './caller.js';
import { cartridgeAdminRoutes } from './cartridges/admin-routes.js';
import { claimFolders } from './claim-folders.js';
import { engineReadiness } from './engine-readiness.js';
import { createGuards, type Guards } from './guards.js';
import type { Readiness } from './health.js';
import { isLoopback } from './http/host-names.js';
import { HttpServer } from './http/http-server.js';
import type { RequestLogEntry } from './http/track-request.js';
import { createDispatch } from './local-dispatch.js';
import { readCorpora, toDrafts } from './open-drafts.js';
import { cartridgeFolderOf, openServedCartridges } from './open-served-cartridges.js';
import { openServedModel, type ServingSettings } from './open-served-model.js';
import { openaiRoutes } from './openai/routes.js';
import type { ServerEnv } from './server-env.js';
import { answerLimits, batchLimits } from './settable-limits.js';

export interface ServeOptions extends RunOptions {
  /** Told of every request when it is over. */
  onLog?: (entry: RequestLogEntry) => void;
}

/** A server that answers. */
export interface RunningServer {
  readonly url: string;
  /** The id of the model in the API. */
  readonly model: string;
  readonly plan: CachePlan;
  /** Takes no new requests, finishes those under way within the deadline of the settings, and frees everything. */
  close(): Promise<void>;
}

/**
 * Starts a server. Throws `INVALID_OPTION` for an address beyond this machine without keys, and for an address or a folder that is
 * taken; else what opening the keys, the model, the cartridges and the cache throws.
 */
export async function startServer(settings: ServingSettings, run: ServeOptions = {}): Promise<RunningServer> {
  const closing: (() => Promise<void>)[] = [];
  const closeAll = async () => {
    for (const close of closing.splice(0).reverse()) await close();
  };
  try {
    return { ...(await start(settings, run, closing)), close: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** Opens one part after the other; `closing` gets what ends each of them, to be called in the opposite order. */
async function start(
  settings: ServingSettings,
  run: ServeOptions,
  closing: (() => Promise<void>)[],
): Promise<Omit<RunningServer, 'close'>> {
  const { serving } = settings;
  if (serving.keys === undefined && !isLoopback(serving.host)) throw needsKeys(serving.host);
  const keys = serving.keys === undefined ? undefined : await KeyRing.open(serving.keys, warningsOf(run));
  const texts = await readCorpora(serving, run);
  closing.push(await claimFolders({ ...serving, cartridgeFolder: cartridgeFolderOf(serving) }));
  const opened = await openServedModel(settings, run);
  closing.push(() => opened.session.dispose());
  const library = await openServedCartridges(opened, serving, run);
  closing.push(() => library.close());
  const { model, plan } = opened;
  const guards = createGuards(serving, keys, model.engine);
  const drafts = toDrafts(texts, opened.session.tokenizer);
  const openai = openaiRoutes({ model, library, drafts, observer: guards.meter, limits: answerLimits(serving) });
  const batches = await openServedBatches(settings, openai, guards, keys, run);
  closing.push(() => batches.close());
  let readiness: Readiness = { ready: true };
  const app = createApp({
    ...guards,
    routes: [openai, cartridgeAdminRoutes(library), batches.routes],
    answeringPaths: [...postPaths(openai), ...SYNCHRONOUS_BATCH_PATHS],
    keys,
    origins: serving,
    bodyLimits: serving,
    timeLimits: serving,
    readiness: () => readiness,
    engineReadiness: engineReadiness(model.engine),
    ...(run.onLog && { onLog: run.onLog }),
  });
  const http = await HttpServer.listen({ ...serving, fetch: app.fetch });
  closing.push(async () => {
    readiness = { ready: false, reason: 'the server is stopping' };
    await http.close(serving.drainSeconds, () => guards.lifetimes.abortAll());
  });
  return { url: http.url, model: model.name, plan };
}

/**
 * Batches go through the same routes as requests of clients, and wait for the token rate of their key. Lines that a client waits
 * for count against its key; those of files have places of their own, so that a long batch does not lock its key out.
 */
function openServedBatches(
  { serving }: ServingSettings,
  openai: OpenAPIHono<ServerEnv>,
  { rates, admission }: Guards,
  keys: KeyRing | undefined,
  run: ServeOptions,
): Promise<Batches> {
  return openBatches({
    folder: join(serving.dataFolder, 'batches'),
    limits: batchLimits(serving),
    dispatch: createDispatch(openai, rates),
    dispatchSynchronous: createDispatch(openai, rates, (caller) => admission.placeOfLine(caller)),
    callerOf: (scope) => (keys ? keys.holderOf(scope) : localCallerOf(scope)),
    whenAllowed: (scope, signal) => rates.whenAllowed(scope, signal),
    warn: warningsOf(run),
  });
}

/** A batch that a key has started is not continued by a server without keys. */
function localCallerOf(scope: string): Caller | undefined {
  return scope === LOCAL_CALLER.scope ? LOCAL_CALLER : undefined;
}

function postPaths({ routes }: OpenAPIHono<ServerEnv>): string[] {
  return [...new Set(routes.filter(({ method }) => method === 'POST').map(({ path }) => path))];
}

function warningsOf({ onProgress }: ServeOptions): (message: string) => void {
  return (message) => onProgress?.({ kind: 'warning', stage: 'answer', message });
}

function needsKeys(host: string): CartridgesError {
  return new CartridgesError('INVALID_OPTION', `${host} can be reached from other machines, and no keys are asked for`, {
    hint: 'make a key with cartridges keys add NAME --keys keys.json, and serve with --keys keys.json',
  });
}
