import type { OpenAPIHono } from '@hono/zod-openapi';
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
  runner.start();
  return {
    routes: batchRoutes({ store, runner, dispatch: dispatchSynchronous, limits, warn }),
    close: async () => {
      await runner.close();
      store.close();
    },
  };
}
