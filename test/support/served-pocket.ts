import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { OpenAPIHono } from '@hono/zod-openapi';
import { packageRoot } from '../../src/core/package.js';
import type { CartridgeHandle } from '../../src/inference/cartridge-handle.js';
import type { DraftSource } from '../../src/inference/drafting/draft-source.js';
import type { InferenceEngine } from '../../src/inference/inference-engine.js';
import { ModelSession } from '../../src/pipeline/model-session.js';
import type { AnswerObserver, AnswerUsage } from '../../src/serving/answer-observer.js';
import type { Caller } from '../../src/serving/caller.js';
import type { CartridgeEntry, CartridgeLibrary, CartridgeReference } from '../../src/serving/cartridges/cartridge-library.js';
import { notFound } from '../../src/serving/request-error.js';
import type { ServedModel } from '../../src/serving/served-model.js';
import type { ServerEnv } from '../../src/serving/server-env.js';
import { textCartridge } from './text-cartridge.js';

/** Sample texts whose beginnings are the cartridges of the test server; the ids are the same. */
const CORPORA = ['harbour', 'clinic'] as const;
const TEXT_LENGTH = 120;

/** Header that says which cartridges the sender of a request may use, separated by commas; without it all of them. */
export const ALLOWED_HEADER = 'x-test-allowed';

/** The pocket model with two cartridges, which were not trained. */
export interface ServedPocket {
  session: ModelSession;
  engine: InferenceEngine;
  model: ServedModel;
  library: StandInLibrary;
  /** Rows of each cartridge. */
  rows: Record<(typeof CORPORA)[number], number>;
  /** None: the text of no cartridge is known. */
  drafts: ReadonlyMap<string, DraftSource>;
  observer: RecordingObserver;
  dispose(): Promise<void>;
}

export async function servePocket(): Promise<ServedPocket> {
  const session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  const engine = await session.createEngine({ contextTokens: 4096, maxRequests: 8, threads: 1 });
  const library = new StandInLibrary();
  const rows = { harbour: 0, clinic: 0 };
  for (const id of CORPORA) {
    const text = readFileSync(join(packageRoot, 'examples/corpora', id, 'corpus.txt'), 'utf8').slice(0, TEXT_LENGTH);
    const handle = await engine.loadCartridge(await textCartridge(session, text));
    library.add(id, handle);
    rows[id] = handle.tokenCount;
  }
  return {
    session,
    engine,
    model: { name: 'pocket', createdAt: 1_700_000_000, engine, framing: session.framing },
    library,
    rows,
    drafts: new Map(),
    observer: new RecordingObserver(),
    dispose: async () => {
      await engine.dispose();
      await session.dispose();
    },
  };
}

/** `routes` behind middleware that sets the caller. */
export function withCaller(routes: OpenAPIHono<ServerEnv>): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  app.use('*', (context, next) => {
    const allowed = context.req.header(ALLOWED_HEADER)?.split(',');
    context.set('caller', { scope: allowed?.join() ?? 'all', isAdmin: false, mayUse: (id) => allowed?.includes(id) ?? true });
    return next();
  });
  app.route('/', routes);
  return app;
}

/** A library over cartridges that are loaded already; `holds` counts what was not released. */
export class StandInLibrary implements CartridgeLibrary {
  readonly #handles = new Map<string, CartridgeHandle>();
  holds = 0;
  references: readonly CartridgeReference[] = [];

  add(id: string, handle: CartridgeHandle): void {
    this.#handles.set(id, handle);
  }

  list(caller: Caller): CartridgeEntry[] {
    return [...this.#handles].filter(([id]) => caller.mayUse(id)).map(([id, handle]) => describe(id, handle));
  }

  async hold(references: readonly CartridgeReference[], caller: Caller) {
    const handles = references.map(({ id }) => {
      const handle = this.#handles.get(id.replace(/-alias$/, ''));
      if (handle && caller.mayUse(id)) return handle;
      throw notFound('cartridge', id);
    });
    this.references = references;
    this.holds++;
    return {
      handles,
      ids: references.map(({ id }) => id),
      tokenCount: handles.reduce((sum, { tokenCount }) => sum + tokenCount, 0),
      release: () => {
        this.holds--;
      },
    };
  }
}

/** What an observer was told of one answer. */
export interface RecordedAnswer {
  scope: string;
  tokens: number;
  finished?: AnswerUsage;
  failed?: string;
}

export class RecordingObserver implements AnswerObserver {
  readonly answers: RecordedAnswer[] = [];

  began({ scope }: Caller) {
    const answer: RecordedAnswer = { scope, tokens: 0 };
    this.answers.push(answer);
    return {
      token: () => {
        answer.tokens++;
      },
      finished: (usage: AnswerUsage) => {
        answer.finished = usage;
      },
      failed: (error: { code: string }) => {
        answer.failed = error.code;
      },
    };
  }
}

function describe(id: string, { tokenCount }: CartridgeHandle): CartridgeEntry {
  return { id, aliases: [`${id}-alias`], tokenCount, bytes: 1, sha256: '0'.repeat(64), createdAt: 1_700_000_001 };
}
