import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { sendBytes, sendJson } from './hub-stand-in.js';

/** Weights & Biases with the artifact `team/main/notes:latest` in memory, for tests. */
export class WandbStandIn {
  readonly files = new Map<string, Buffer>();
  readonly requests: { line: string; authorization: string | undefined; variables?: unknown }[] = [];
  /** Called before a request is answered; true means that it was answered. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** Changes what the API says of a file. */
  describe: (file: Record<string, unknown>) => Record<string, unknown> = (file) => file;
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<WandbStandIn> {
    const standIn = new WandbStandIn();
    await new Promise<void>((resolve) => standIn.#server.listen(0, '127.0.0.1', resolve));
    return standIn;
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { authorization, range } = request.headers;
    const body = request.method === 'POST' ? JSON.parse(await text(request)) : undefined;
    this.requests.push({ line: `${request.method} ${request.url}`, authorization, variables: body?.variables });
    if (this.intercept(request, response)) return;
    if (request.url === '/graphql') return sendJson(response, this.#query(body.variables));
    const bytes = this.files.get(new URL(request.url!, this.baseUrl).pathname.replace('/signed/', ''));
    if (bytes) sendBytes(response, bytes, range);
    else response.writeHead(404).end();
  }

  #query({ entity, project, artifact }: Record<string, string>): unknown {
    if (`${entity}/${project}` !== 'team/main') return { data: { project: null } };
    if (artifact !== 'notes:latest') return { data: { project: { artifact: null } } };
    const edges = [...this.files].map(([name, bytes]) => ({
      node: this.describe({
        name,
        directUrl: `${this.baseUrl}/signed/${name}?signature=secret`,
        sizeBytes: bytes.length,
        md5: createHash('md5').update(bytes).digest('base64'),
      }),
    }));
    return { data: { project: { artifact: { files: { edges } } } } };
  }
}
