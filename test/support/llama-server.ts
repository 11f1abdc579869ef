import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { findLlamaServer } from '../../bench/peers/llama-server-binary.js';
import { freePort } from '../../bench/support/server-process.js';

/** A stock `llama-server`: `CARTRIDGES_LLAMA_SERVER`, or the one that `bench/peers/llama-server.ts` built. */
const LLAMA_SERVER = findLlamaServer();
export const HAS_LLAMA_SERVER = LLAMA_SERVER !== undefined;

/** Ends the name of a test that needs the server. */
export const LLAMA_SERVER_NOTE = HAS_LLAMA_SERVER ? '' : ' (skipped: bench/peers/llama-server.ts builds a llama-server)';

const START_SECONDS = 30;
const POLL_MS = 100;
const KEPT_LOG_CHARACTERS = 2000;

/** A running server with one thread. */
export class LlamaServer {
  readonly #child: ChildProcess;
  readonly #url: string;
  #log = '';

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (piece: Buffer) => {
        this.#log = `${this.#log}${piece}`.slice(-KEPT_LOG_CHARACTERS);
      });
    }
  }

  /** Starts a server and waits until it answers. Throws an Error with the last words of one that does not. */
  static async start(flags: readonly string[]): Promise<LlamaServer> {
    const port = await freePort();
    const own = ['--port', String(port), '-t', '1', '--no-ui', '--offline'];
    const child = spawn(LLAMA_SERVER!, [...flags, ...own], { stdio: ['ignore', 'pipe', 'pipe'] });
    const server = new LlamaServer(child, `http://127.0.0.1:${port}`);
    await server.#ready();
    return server;
  }

  /** Status and JSON of the answer to a POST. */
  async post<T>(path: string, body: unknown): Promise<{ status: number; answer: T }> {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${this.#url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: response.status, answer: (await response.json()) as T };
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.#child.kill();
    await once(this.#child, 'exit');
  }

  async #ready(): Promise<void> {
    for (let waited = 0; waited < START_SECONDS * 1000 && this.#child.exitCode === null; waited += POLL_MS) {
      const response = await fetch(`${this.#url}/health`).catch(() => undefined);
      if (response?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    await this.stop();
    throw new Error(`llama-server does not answer: ${this.#log}`);
  }
}
