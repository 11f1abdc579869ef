/**
 * Our server beside llama.cpp's own `llama-server`, the same GGUF, threads and cache: short prompts for 1, 8 and 32 users, and
 * users of one text, who read it in full there and behind a cartridge here.
 * `npm run bench -- serving [--json] [--threads N] [--repetitions N] [--only short|corpus] [--model FILE]`
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeCartridge } from '../src/cartridge/cartridge-file.js';
import { formatBytes } from '../src/core/format-bytes.js';
import { packageRoot } from '../src/core/package.js';
import { Random } from '../src/core/random.js';
import { kvBytesPerToken } from '../src/inference/inference-engine.js';
import { resolveThreads } from '../src/native/devices.js';
import { loadCorpus } from '../src/pipeline/corpus-source.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import { LLAMA_SERVER, startLlamaServer } from './peers/start-llama-server.js';
import { BENCH_OPTIONS } from './support/bench-options.js';
import { randomCartridge } from './support/cartridge-of.js';
import { type AnswersTogether, answerTogether, type UserRequest } from './support/http-users.js';
import { describeMachine } from './support/machine.js';
import { findRealModel, REAL_MODEL_ABSENT } from './support/models.js';
import { type BenchCase, comparison, printReport, progress } from './support/report.js';
import { freePort, ServerProcess } from './support/server-process.js';
import { median } from './support/statistics.js';
import { tuningNote } from './support/tuning-note.js';

const SHORT_USERS = [1, 8, 32];
/** Every user of `llama-server` reads the text for himself at first: 32 of them would read for a quarter of an hour. */
const CORPUS_USERS = [1, 8];
const NEW_TOKENS = 64;
/** Each server has made so many tokens before its runs count: ours is compiled while it runs. */
const WARM_UP_TOKENS = 512;
/** A turn with its framing and its answer. */
const TURN_TOKENS = 192;
const CARTRIDGE_TOKENS = 384;
const TOP_LOGPROBS = 20;
const FIT_BYTES = 2 ** 30;
const MODEL_NAME = 'bench';
const CARTRIDGE_NAME = 'text';

const { values: options } = parseArgs({
  options: { ...BENCH_OPTIONS, model: { type: 'string' } },
});
const threads = resolveThreads(Number(options.threads));
const machine = describeMachine();
const model = options.model ?? findRealModel();
const cases: BenchCase[] = [];
if (model !== undefined) {
  if (options.only !== 'corpus') cases.push(...(await measureShortPrompts(model)));
  if (options.only !== 'short') cases.push(...(await measureCorpus(model)));
}
const notes = [
  `medians of ${options.repetitions} runs that take turns, ${NEW_TOKENS} new tokens a user, ${threads} threads each`,
  "answered: tokens of all over the time of all, prompts included; decode: from the last user's first token on",
  'first token: that of the last user; the ends of turns are ignored, so all make equally many tokens',
  `log-probs: the best ${TOP_LOGPROBS} of every token from our server, none from the other`,
  ...(model === undefined ? [] : [await tuningNote(model)]),
];
const skipped = model === undefined ? { skipped: REAL_MODEL_ABSENT } : {};
printReport({ name: 'serving', machine, cases, notes, ...skipped }, options.json);
process.exit(0);

async function measureShortPrompts(modelPath: string): Promise<BenchCase[]> {
  const cells = Math.max(...SHORT_USERS) * TURN_TOKENS;
  const random = new Random(1);
  const found: BenchCase[] = [];
  for (const users of SHORT_USERS) {
    // Nobody repeats a prompt, so that no server can answer from what it has read before.
    const requests = () => Array.from({ length: users }, () => shortRequest(random.integer(1_000_000)));
    const withLogprobs = () => requests().map((request) => ({ ...request, topLogprobs: TOP_LOGPROBS }));
    const title = `${users} user${users === 1 ? '' : 's'}, short prompt`;
    const servers = await startBoth(modelPath, { cells, users });
    found.push(...(await compare(title, servers, { ours: requests, rival: requests, withLogprobs })));
  }
  return found;
}

async function measureCorpus(modelPath: string): Promise<BenchCase[]> {
  const session = await ModelSession.open({ model: modelPath, threads });
  const folder = await mkdtemp(join(tmpdir(), 'cartridges-bench-'));
  try {
    const { text } = await loadCorpus(join(packageRoot, 'examples', 'corpora', 'lighthouse'), session.tokenizer);
    const textTokens = session.framing.encodeSystemPrefix(text).length;
    const cartridgePath = join(folder, 'text.safetensors');
    await writeCartridge(cartridgePath, randomCartridge(session, CARTRIDGE_TOKENS), { dtype: 'f16' });
    const bytesPerToken = kvBytesPerToken(session.languageModel.shape);
    const found: BenchCase[] = [];
    for (const users of CORPUS_USERS) {
      const servers = await startBoth(modelPath, { cells: users * (textTokens + TURN_TOKENS), users, cartridgePath });
      const random = new Random(2);
      const ask = (context: Partial<UserRequest>, before: UserRequest['messages']) => () =>
        Array.from({ length: users }, () => ({ ...shortRequest(random.integer(1_000_000), before), ...context }));
      const title = `${users} user${users === 1 ? '' : 's'} of a text of ${textTokens} tokens`;
      found.push(
        ...(await compare(title, servers, {
          ours: ask({ model: `${MODEL_NAME}:${CARTRIDGE_NAME}` }, []),
          rival: ask({}, [{ role: 'system', content: text }]),
        })),
        ...cacheCases(title, { users, textTokens, bytesPerToken }),
      );
    }
    return found;
  } finally {
    await rm(folder, { recursive: true });
    await session.dispose();
  }
}

/** From the shapes, not measured: rows that a user needs in the cache, and how many users a gibibyte holds. */
function cacheCases(title: string, { users, textTokens, bytesPerToken }: Record<string, number>): BenchCase[] {
  const shared = CARTRIDGE_TOKENS * bytesPerToken!;
  const own = TURN_TOKENS * bytesPerToken!;
  const full = (textTokens! + TURN_TOKENS) * bytesPerToken!;
  return [
    comparison(
      {
        case: `${title}: KV cache a user, by shape`,
        unit: 'bytes',
        ours: own + shared / users!,
        rival: full,
        rivalName: LLAMA_SERVER,
      },
      'lower',
    ),
    comparison({
      case: `users that ${formatBytes(FIT_BYTES)} hold, by shape`,
      unit: 'users',
      ours: Math.floor((FIT_BYTES - shared) / own),
      rival: Math.floor(FIT_BYTES / full),
      rivalName: LLAMA_SERVER,
    }),
  ];
}

interface Servers {
  ours: ServerProcess;
  rival: ServerProcess;
}

interface Load {
  /** Of the cache, for all users together. */
  cells: number;
  users: number;
  cartridgePath?: string;
}

async function startBoth(modelPath: string, load: Load): Promise<Servers> {
  const ours = await ServerProcess.start(await ourServer(modelPath, load));
  try {
    const { cells, users: slots } = load;
    return { ours, rival: await startLlamaServer({ modelPath, threads, cells, slots }) };
  } catch (error) {
    await ours.stop();
    throw error;
  }
}

async function ourServer(modelPath: string, { cells, users, cartridgePath }: Load) {
  const port = String(await freePort());
  const cartridge = cartridgePath === undefined ? [] : ['--cartridge', `${CARTRIDGE_NAME}=${cartridgePath}`];
  const sizes = ['--context-tokens', String(cells), '--max-requests', String(users), '--threads', String(threads)];
  const start = [process.execPath, join(packageRoot, 'bin', 'cartridges.js'), 'serve', '--quiet'] as const;
  return {
    name: 'ours',
    command: [...start, '--model', modelPath, '--model-name', MODEL_NAME, '--port', port, ...sizes, ...cartridge] as const,
    url: `http://127.0.0.1:${port}`,
    readyPath: '/ready',
    startSeconds: 120,
  };
}

interface Requests {
  ours: () => UserRequest[];
  rival: () => UserRequest[];
  /** To our server as well: with log-probs, which the rival does without. */
  withLogprobs?: () => UserRequest[];
}

/** Both servers take turns, the same users each, once they are warm. */
async function compare(title: string, servers: Servers, requests: Requests): Promise<BenchCase[]> {
  const ours: Contestant = { name: 'ours', server: servers.ours, requests: requests.ours, runs: [] };
  const rival: Contestant = { name: LLAMA_SERVER, server: servers.rival, requests: requests.rival, runs: [] };
  const { withLogprobs: ask } = requests;
  const withLogprobs: Contestant | undefined = ask && { ...ours, name: 'ours with log-probs', requests: ask, runs: [] };
  const contestants = withLogprobs ? [ours, rival, withLogprobs] : [ours, rival];
  const outsideMs: number[] = [];
  try {
    for (const { server, requests: make } of contestants) await warmUp(server, make);
    for (let repetition = 0; repetition < Number(options.repetitions); repetition++) {
      for (const contestant of contestants) {
        const before = await decodeMs(servers.ours);
        const run = await answerTogether(contestant.server.url, contestant.requests());
        if (contestant === ours) outsideMs.push((run.totalMs - ((await decodeMs(servers.ours)) - before)) / run.tokens);
        const figures = `${run.tokensPerSecond.toFixed(1)} tokens/s, first token ${run.firstTokenMs.toFixed(0)} ms`;
        progress(`${title}, ${contestant.name}: ${figures}`);
        contestant.runs.push(run);
      }
    }
  } finally {
    await Promise.all([servers.ours.stop(), servers.rival.stop()]);
  }
  const figures = (figure: keyof AnswersTogether, side = ours) => ({
    ours: middle(side, figure),
    rival: middle(rival, figure),
    rivalName: LLAMA_SERVER,
  });
  const decode = 'tokensPerSecond';
  return [
    comparison({ case: `${title}: answered`, unit: 'tokens/s', ...figures('answeredPerSecond') }),
    comparison({ case: `${title}: decode`, unit: 'tokens/s', ...figures(decode) }),
    ...(withLogprobs
      ? [comparison({ case: `${title}: decode with log-probs`, unit: 'tokens/s', ...figures(decode, withLogprobs) })]
      : []),
    comparison({ case: `${title}: first token`, unit: 'ms', ...figures('firstTokenMs') }, 'lower'),
    comparison({
      case: `${title}: outside of decodes`,
      unit: 'ms a token',
      ours: median(outsideMs),
      rival: null,
      rivalName: 'no rival',
    }),
  ];
}

interface Contestant {
  name: string;
  server: ServerProcess;
  requests: () => UserRequest[];
  runs: AnswersTogether[];
}

function middle({ runs }: Contestant, figure: keyof AnswersTogether): number {
  return median(runs.map((run) => run[figure]));
}

async function warmUp({ url }: ServerProcess, requests: () => UserRequest[]): Promise<void> {
  for (let tokens = 0; tokens < WARM_UP_TOKENS; ) tokens += (await answerTogether(url, requests())).tokens;
}

/** Time that the engine of our server has spent in decodes; what is left of a run is this package's own. */
async function decodeMs({ url }: ServerProcess): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const [, seconds] = /^cartridges_decode_seconds_total (\S+)$/m.exec(text) ?? [];
  if (seconds === undefined) throw new Error(`our server does not say how long it decoded: ${text.slice(0, 200)}`);
  return Number(seconds) * 1000;
}

function shortRequest(number: number, before: UserRequest['messages'] = []): UserRequest {
  const content = `Case ${number}: what should a keeper note in the log after a night of fog, and why does it matter?`;
  return { model: MODEL_NAME, messages: [...before, { role: 'user', content }], maxTokens: NEW_TOKENS };
}
