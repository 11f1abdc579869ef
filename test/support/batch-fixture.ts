import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { OpenAPIHono } from '@hono/zod-openapi';
import { type BatchLimits, DEFAULT_BATCH_LIMITS } from '../../src/serving/batches/batch-limits.js';
import { type BatchesOptions, openBatches } from '../../src/serving/batches/open-batches.js';
import type { Caller } from '../../src/serving/caller.js';
import type { Dispatch } from '../../src/serving/dispatch.js';
import { createRouter } from '../../src/serving/router.js';
import type { ServerEnv } from '../../src/serving/server-env.js';

export async function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'cartridges-batches-'));
}

export function removeFolder(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true });
}

export function callerOf(scope: string): Caller {
  return { scope, isAdmin: false, mayUse: () => true };
}

/** Answers every request with its own body. */
export const echo: Dispatch = async (path, body, caller) => ({ status: 200, body: { path, echo: body, scope: caller.scope } });

/** A dispatch whose answers wait until they are let go; it counts what is under way. */
export class HeldDispatch {
  readonly asked: unknown[] = [];
  underWay = 0;
  most = 0;
  #open: (() => void)[] = [];

  readonly dispatch: Dispatch = async (_path, body, _caller, signal) => {
    this.asked.push(body);
    this.most = Math.max(this.most, ++this.underWay);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#open.push(resolve);
        signal?.addEventListener('abort', () => reject(Object.assign(new Error('aborted'), { name: 'AbortError' })));
      });
    } finally {
      this.underWay--;
    }
    return { status: 200, body: { echo: body } };
  };

  /** Lets the oldest answers go. */
  release(count = 1): void {
    for (const open of this.#open.splice(0, count)) open();
  }
}

export interface ApiResult {
  status: number;
  headers: Headers;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at fields of answers whose shape is what they check
  json: any;
}

/** The routes behind a middleware that takes the scope from a header, as a client in this process. */
export class TestApi {
  readonly app: OpenAPIHono<ServerEnv>;
  readonly warnings: string[];
  readonly close: () => Promise<void>;

  private constructor(routes: OpenAPIHono<ServerEnv>, warnings: string[], close: () => Promise<void>) {
    this.app = createRouter();
    this.app.use(async (context, next) => {
      context.set('caller', callerOf(context.req.header('x-scope') ?? 'alice'));
      await next();
    });
    this.app.route('/', routes);
    this.warnings = warnings;
    this.close = close;
  }

  static async open({ limits, ...options }: TestOptions): Promise<TestApi> {
    const warnings: string[] = [];
    const batches = await openBatches({
      dispatch: echo,
      callerOf,
      warn: (message) => warnings.push(message),
      ...options,
      limits: { ...DEFAULT_BATCH_LIMITS, busyRetry: { attempts: 3, delayMs: 1 }, ...limits },
    });
    return new TestApi(batches.routes, warnings, () => batches.close());
  }

  async call(method: string, path: string, { scope = 'alice', json, ...init }: CallOptions = {}): Promise<ApiResult> {
    const headers = { 'x-scope': scope, ...(json !== undefined && { 'content-type': 'application/json' }), ...init.headers };
    const response = await this.app.request(path, {
      method,
      ...init,
      headers,
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json');
    return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
  }

  upload(
    content: string | Uint8Array<ArrayBuffer>,
    { purpose = 'batch', filename = 'in.jsonl', scope = 'alice' } = {},
  ): Promise<ApiResult> {
    const body = new FormData();
    body.append('file', new Blob([content]), filename);
    body.append('purpose', purpose);
    return this.call('POST', '/v1/files', { scope, body });
  }

  /** Uploads requests and makes a batch of them. Returns its id. */
  async startBatch(
    content: string,
    { scope = 'alice', ...order }: { scope?: string; [field: string]: unknown } = {},
  ): Promise<string> {
    const file = await this.upload(content, { scope });
    const json = { input_file_id: file.json.id, endpoint: '/v1/chat/completions', completion_window: '24h', ...order };
    const batch = await this.call('POST', '/v1/batches', { scope, json });
    if (batch.status !== 200) throw new Error(`the batch was refused: ${batch.text}`);
    return batch.json.id;
  }

  /** Waits until a batch has one of the statuses and returns it. */
  async untilStatus(id: string, statuses: string[], scope = 'alice') {
    return until(async () => {
      const { json } = await this.call('GET', `/v1/batches/${id}`, { scope });
      return statuses.includes(json.status) ? json : undefined;
    });
  }

  /** The lines of a file as values. */
  async lines(fileId: string, scope = 'alice') {
    const { text } = await this.call('GET', `/v1/files/${fileId}/content`, { scope });
    return text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  }
}

interface TestOptions extends Partial<Omit<BatchesOptions, 'limits'>> {
  folder: string;
  limits?: Partial<BatchLimits>;
}

interface CallOptions extends RequestInit {
  scope?: string;
  json?: unknown;
  headers?: Record<string, string>;
}

/** Asks again until there is something. */
export async function until<T>(ask: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 1000; tries++) {
    const found = await ask();
    if (found !== undefined) return found;
    await setTimeout(5);
  }
  throw new Error('it did not come');
}

/** A file with so many requests. */
export function requestLines(count: number, prefix = 'r'): string {
  return Array.from({ length: count }, (_, index) => requestLine(`${prefix}${index}`, { number: index })).join('\n');
}

export function requestLine(customId: string, body: unknown, more: object = {}): string {
  return JSON.stringify({ custom_id: customId, method: 'POST', url: '/v1/chat/completions', body, ...more });
}
