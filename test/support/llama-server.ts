import { join } from 'node:path';
import { findLlamaServer } from '../../bench/peers/llama-server-binary.js';
import { freePort, ServerProcess } from '../../bench/support/server-process.js';
import { packageRoot } from '../../src/core/package.js';

/** A stock `llama-server`: `CARTRIDGES_LLAMA_SERVER`, or the one that `bench/peers/llama-server.ts` built. */
const LLAMA_SERVER = findLlamaServer();
const START_SECONDS = 30;

/** A running server with one thread. */
export class LlamaServer {
  readonly #process: ServerProcess;

  private constructor(process: ServerProcess) {
    this.#process = process;
  }

  /** Starts a server and waits until it answers. Throws an Error with the last words of one that does not. */
  static async start(flags: readonly string[]): Promise<LlamaServer> {
    const port = await freePort();
    const own = ['--port', String(port), '-t', '1', '--no-ui', '--offline'];
    const command = [LLAMA_SERVER!, ...flags, ...own] as const;
    const url = `http://127.0.0.1:${port}`;
    return new LlamaServer(
      await ServerProcess.start({ name: 'llama-server', command, url, readyPath: '/health', startSeconds: START_SECONDS }),
    );
  }

  /** Status and JSON of the answer to a POST. */
  async post<T>(path: string, body: unknown): Promise<{ status: number; answer: T }> {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${this.#process.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: response.status, answer: (await response.json()) as T };
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }
}

/**
 * Why no test can use the server, or undefined when it works. One that this machine's compiler built may still die at its first
 * product, of an instruction for matrices.
 */
async function findObstacle(): Promise<string | undefined> {
  if (LLAMA_SERVER === undefined) return 'bench/peers/llama-server.ts builds a llama-server';
  try {
    const server = await LlamaServer.start(['-m', join(packageRoot, 'models', 'pocket', 'pocket.gguf'), '-c', '64']);
    try {
      await server.post('/completion', { prompt: 'Hello', n_predict: 1 });
    } finally {
      await server.stop();
    }
  } catch (error) {
    return `the llama-server that is there does not run by itself: ${(error as Error).message}`;
  }
  return undefined;
}

const obstacle = await findObstacle();
export const HAS_LLAMA_SERVER = obstacle === undefined;

/** Ends the name of a test that needs the server. */
export const LLAMA_SERVER_NOTE = obstacle === undefined ? '' : ` (skipped: ${obstacle})`;
