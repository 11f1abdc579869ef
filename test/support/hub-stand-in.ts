import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const STAND_IN_COMMIT = 'c0ffee'.padEnd(40, '0');

/** A hub with one repository in memory, for tests. Large files are served through a redirect, as the real hub does. */
export class HubStandIn {
  readonly files = new Map<string, Buffer>();
  /** Every request as `METHOD path`, with the headers that tests look at. */
  readonly requests: { line: string; authorization: string | undefined; range: string | undefined }[] = [];
  /** Called before a request is answered; true means that it was answered. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** Where large files are redirected to; this server by default. */
  storage: string | undefined;
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(files: Record<string, Buffer> = {}): Promise<HubStandIn> {
    const hub = new HubStandIn();
    for (const [path, bytes] of Object.entries(files)) hub.files.set(path, bytes);
    await new Promise<void>((resolve) => hub.#server.listen(0, '127.0.0.1', resolve));
    return hub;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { authorization, range } = request.headers;
    this.requests.push({ line: `${request.method} ${request.url}`, authorization, range });
    const path = decodeURIComponent(new URL(request.url as string, this.endpoint).pathname);
    const resolved = /^\/org\/model\/resolve\/[0-9a-f]{40}\/(.+)$/.exec(path)?.[1];
    const bytes = this.files.get(resolved ?? path.replace('/storage/', ''));
    if (this.intercept(request, response)) return;
    if (path.startsWith('/api/models/org/model/revision/')) sendJson(response, { sha: STAND_IN_COMMIT });
    else if (path.startsWith(`/api/models/org/model/tree/${STAND_IN_COMMIT}`)) sendJson(response, this.#tree());
    else if (!bytes) response.writeHead(404).end();
    else if (resolved?.endsWith('.gguf')) this.#redirect(response, resolved, bytes);
    else sendBytes(response, bytes, range);
  }

  #tree(): unknown[] {
    const entries = [...this.files].map(([path, bytes]) => {
      const oid = gitSha1(bytes);
      const lfs = { oid: sha256Of(bytes), size: bytes.length, pointerSize: 134 };
      return { type: 'file', path, size: bytes.length, oid, ...(path.endsWith('.gguf') ? { lfs } : {}) };
    });
    return [{ type: 'directory', path: 'folder', oid: '', size: 0 }, ...entries];
  }

  #redirect(response: ServerResponse, path: string, bytes: Buffer): void {
    const location = `${this.storage ?? this.endpoint}/storage/${path}`;
    response.writeHead(302, { location, 'x-linked-etag': `"${sha256Of(bytes)}"` }).end();
  }
}

/** Bytes with a range honoured. */
export function sendBytes(response: ServerResponse, bytes: Buffer, range: string | undefined): void {
  const start = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
  const rest = bytes.subarray(start);
  const headers = { 'content-length': rest.length, 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` };
  response.writeHead(start > 0 ? 206 : 200, start > 0 ? headers : { 'content-length': rest.length }).end(rest);
}

export function sendJson(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}

export function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function gitSha1(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}
