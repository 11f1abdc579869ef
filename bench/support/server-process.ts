import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

export interface ServerCommand {
  name: string;
  command: readonly [string, ...string[]];
  url: string;
  /** A path that answers 200 when requests can come. */
  readyPath: string;
  startSeconds: number;
}

/** A server that is measured, in a process of its own. */
export class ServerProcess {
  readonly name: string;
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor({ name, url }: ServerCommand, child: ChildProcess) {
    this.name = name;
    this.url = url;
    this.#child = child;
  }

  /** Throws an Error with the server's last words when it ends, or is not ready in time. */
  static async start(options: ServerCommand): Promise<ServerProcess> {
    const { name, command, url, readyPath, startSeconds } = options;
    const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
    let words = '';
    child.stderr!.on('data', (chunk: Buffer) => {
      words = (words + chunk.toString()).slice(-2_000);
    });
    const server = new ServerProcess(options, child);
    const deadline = Date.now() + startSeconds * 1000;
    while (!(await answers(`${url}${readyPath}`))) {
      const ended = child.exitCode !== null || child.signalCode !== null;
      if (!ended && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        continue;
      }
      // A server that is stopped here has a signal too.
      const problem = ended ? `ended with ${child.signalCode ?? `status ${child.exitCode}`}` : 'was not ready in time';
      await server.stop();
      throw new Error(`${name} ${problem}: ${words.trim().split('\n').at(-1)}`);
    }
    return server;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGTERM');
    await once(this.#child, 'exit');
  }
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );
}
