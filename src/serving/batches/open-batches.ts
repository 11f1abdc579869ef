import type { OpenAPIHono } from '@hono/zod-openapi';
import { toCartridgesError } from '../../core/errors.js';
import type { ServerEnv } from '../server-env.js';
import { batchRoutes } from './batch-routes.js';
import { BatchRunner } from './batch-runner.js';
import { BatchStore, type BatchStoreOptions } from './batch-store.js';
import type { BatchRunParts } from './run-batch.js';

export interface BatchesOptions extends BatchStoreOptions, Pick<BatchRunParts, 'dispatch' | 'callerOf'> {
  /** For lines that a client waits for; without it they are as those of files. */
  dispatchSynchronous?: BatchRunParts['dispatch'];
  /** Resolves when a scope may go on, such as `TokenRates.whenAllowed`; without it all may. */
  whenAllowed?: BatchRunParts['whenAllowed'];
}

/** Between two looks for files whose time is over and for batches whose end could not be written. */
const SWEEP_MS = 3_600_000;

/** Files and batches of a server. */
export interface Batches {
  readonly routes: OpenAPIHono<ServerEnv>;
  /** Stops the batches where they are; the next server on this folder goes on with them. */
  close(): Promise<void>;
}

/** Opens a folder of files and batches and goes on with what is unfinished in it. */
export async function openBatches({
  dispatch,
  dispatchSynchronous = dispatch,
  callerOf,
  whenAllowed = async () => {},
  ...options
}: BatchesOptions): Promise<Batches> {
  const { limits, warn } = options;
  const store = await BatchStore.open(options);
  const runner = new BatchRunner({ store, dispatch, callerOf, whenAllowed, warn });
  runner.resume();
  const sweeper = setInterval(() => void sweep(store, runner, warn), SWEEP_MS).unref();
  return {
    routes: batchRoutes({ store, runner, dispatch: dispatchSynchronous, limits, warn }),
    close: async () => {
      clearInterval(sweeper);
      await runner.close();
    },
  };
}

/** Files go first: what a batch wanted may have been room. */
async function sweep(store: BatchStore, runner: BatchRunner, warn: (message: string) => void): Promise<void> {
  await store.sweep().catch((error) => warn(`expired files could not be removed: ${toCartridgesError(error).message}`));
  runner.resume();
}
