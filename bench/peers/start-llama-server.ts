import { freePort, ServerProcess } from '../support/server-process.js';
import { buildLlamaServer, findLlamaServer } from './llama-server-binary.js';

export const LLAMA_SERVER = 'llama-server';

export interface LlamaServerSizes {
  modelPath: string;
  threads: number;
  /** Of the cache, for all slots together. */
  cells: number;
  /** Requests at once. */
  slots: number;
}

/** The stock `llama-server` on a free port of this machine, built first where there is none. Throws an Error with its last words. */
export async function startLlamaServer({ modelPath, threads, cells, slots }: LlamaServerSizes): Promise<ServerProcess> {
  const path = findLlamaServer() ?? (await buildLlamaServer());
  const port = String(await freePort());
  const sizes = ['--threads', threads, '--threads-batch', threads, '--ctx-size', cells, '--parallel', slots].map(String);
  return ServerProcess.start({
    name: LLAMA_SERVER,
    command: [path, '--model', modelPath, '--host', '127.0.0.1', '--port', port, '--flash-attn', 'on', ...sizes],
    url: `http://127.0.0.1:${port}`,
    readyPath: '/health',
    startSeconds: 120,
  });
}
