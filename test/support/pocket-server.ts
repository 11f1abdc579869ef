import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { writeCartridge } from '../../src/cartridge/cartridge-file.js';
import { ModelSession } from '../../src/pipeline/model-session.js';
import { resolveSettings } from '../../src/pipeline/resolve-settings.js';
import type { SettingsInput } from '../../src/pipeline/settings.js';
import type { KeyGrant } from '../../src/serving/auth/api-key.js';
import { addKey, revokeKey } from '../../src/serving/auth/key-file.js';
import { type RunningServer, startServer } from '../../src/serving/server.js';
import { parseSamples, type Samples, samplesWhenIdle } from './server-metrics.js';
import { textCartridge } from './text-cartridge.js';

export interface PocketServerOptions {
  /** Texts by the id of the cartridge that is made of each. */
  cartridges?: Record<string, string>;
  /** What the key of each name may do; without keys everybody is the local caller. */
  keys?: Record<string, Partial<KeyGrant>>;
  serving?: SettingsInput['serving'];
}

/** One request, as it is written to the socket: nothing of the path is normalised. */
export interface Call {
  method?: string;
  path: string;
  /** The name of the key; without one no key is sent. */
  key?: string;
  json?: unknown;
  body?: string | Uint8Array;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  agent?: Agent;
}

export interface Reply {
  status: number;
  headers: IncomingMessage['headers'];
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at fields of answers whose shape is what they check
  json: any;
}

/** A server of this process with the pocket model, one thread, cartridges that were not trained, and keys. */
export class PocketServer {
  readonly folder: string;
  readonly secrets: ReadonlyMap<string, string>;
  readonly running: RunningServer;
  readonly #agent = new Agent({ keepAlive: true });

  private constructor(folder: string, secrets: ReadonlyMap<string, string>, running: RunningServer) {
    this.folder = folder;
    this.secrets = secrets;
    this.running = running;
  }

  static async start({ cartridges = {}, keys, serving = {} }: PocketServerOptions = {}): Promise<PocketServer> {
    const folder = mkdtempSync(join(tmpdir(), 'cartridges-server-'));
    const named = await writeTextCartridges(folder, cartridges);
    const secrets = new Map<string, string>();
    for (const [name, grant] of Object.entries(keys ?? {})) {
      const full = { name, cartridges: [], admin: false, limits: {}, expiresAt: null, ...grant };
      secrets.set(name, (await addKey(join(folder, 'keys.json'), full)).secret);
    }
    const common = { port: 0, dataFolder: join(folder, 'serving'), cartridges: named };
    const settings = resolveSettings({
      device: 'cpu',
      threads: 1,
      serving: { ...common, ...(keys && { keys: join(folder, 'keys.json') }), ...serving },
    });
    return new PocketServer(folder, secrets, await startServer({ ...settings, model: 'pocket' }));
  }

  get url(): string {
    return this.running.url;
  }

  revoke(name: string): Promise<void> {
    return revokeKey(join(this.folder, 'keys.json'), name);
  }

  /** Sends a request and reads the whole answer. Rejects when the connection breaks or the signal aborts. */
  async send(call: Call): Promise<Reply> {
    const response = await this.open(call);
    const body = await text(response);
    const isJson = response.headers['content-type']?.startsWith('application/json');
    return { status: response.statusCode!, headers: response.headers, text: body, json: isJson ? JSON.parse(body) : undefined };
  }

  /** Sends a request; the body of the answer is still to be read. */
  open({ method, path, key, json, body, headers, signal, agent = this.#agent }: Call): Promise<IncomingMessage> {
    const content = json === undefined ? body : JSON.stringify(json);
    const { hostname: host, port } = new URL(this.url);
    return new Promise((resolve, reject) => {
      const options = {
        host,
        port,
        path,
        agent,
        method: method ?? (content === undefined ? 'GET' : 'POST'),
        headers: {
          ...(json !== undefined && { 'content-type': 'application/json' }),
          ...(content !== undefined && { 'content-length': String(Buffer.byteLength(content)) }),
          ...(key !== undefined && { authorization: `Bearer ${this.secrets.get(key)}` }),
          ...headers,
        },
        ...(signal && { signal }),
      };
      request(options, resolve).on('error', reject).end(content);
    });
  }

  upload(content: string, key?: string, purpose = 'batch'): Promise<Reply> {
    const part = (name: string, value: string) =>
      `--part\r\ncontent-disposition: form-data; name=${name}\r\n\r\n${value}\r\n--part`;
    const body = `${part('purpose', purpose)}${part('"file"; filename="in.jsonl"', content).slice('--part'.length)}--\r\n`;
    return this.send({ path: '/v1/files', body, headers: MULTIPART, ...(key !== undefined && { key }) });
  }

  /** Waits until a batch has ended, however, and returns it. */
  async batchEnd(id: string, key?: string): Promise<Reply['json']> {
    for (;;) {
      const { json } = await this.send({ path: `/v1/batches/${id}`, ...(key !== undefined && { key }) });
      if (ENDED.has(json.status)) return json;
      await setTimeout(20);
    }
  }

  async metrics(): Promise<Samples> {
    return parseSamples((await this.send({ path: '/metrics' })).text);
  }

  /** Its metrics, when it has nothing to do. */
  whenIdle(): Promise<Samples> {
    return samplesWhenIdle(() => this.metrics());
  }

  /** Closes the connections that this client has kept open. */
  disconnect(): void {
    this.#agent.destroy();
  }

  async close(): Promise<void> {
    this.disconnect();
    await this.running.close();
    rmSync(this.folder, { recursive: true });
  }
}

const ENDED = new Set(['completed', 'failed', 'cancelled', 'expired']);
const MULTIPART = { 'content-type': 'multipart/form-data; boundary=part' };

/** Writes a cartridge for each text and returns them as the settings name them, `id=path`. */
export async function writeTextCartridges(folder: string, texts: Record<string, string>): Promise<string[]> {
  if (Object.keys(texts).length === 0) return [];
  const session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  const named: string[] = [];
  for (const [id, content] of Object.entries(texts)) {
    const path = join(folder, `${id}.safetensors`);
    await writeCartridge(path, await textCartridge(session, content), { dtype: 'f16' });
    named.push(`${id}=${path}`);
  }
  await session.dispose();
  return named;
}
