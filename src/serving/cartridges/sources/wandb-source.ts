import { z } from 'zod';
import { CartridgesError } from '../../../core/errors.js';
import { tryParse } from '../../../core/json.js';
import { downloadBlob } from '../../../models/hub/download-blob.js';
import { bodyPieces, HubClient } from '../../../models/hub/hub-client.js';
import { checkInnerPath, type RepositoryFile } from '../../../models/hub/repository.js';
import { DEFAULT_RETRY_POLICY, TransientFailure, withRetries } from '../../../models/hub/retry.js';
import { chooseCartridgeFile } from './choose-cartridge-file.js';
import { hostRule, type RemoteSource, type RemoteSourceOptions } from './remote-source.js';

/**
 * Cartridges in artifacts of Weights & Biases. Its GraphQL API, as its Python client's `apis/public` speaks it, lists the files
 * of an artifact with an address that is signed for a short time; the bytes come from there without a key.
 */

export interface WandbSourceOptions extends RemoteSourceOptions {
  /** Address of the API, for example `https://api.wandb.ai`. */
  baseUrl: string;
  /** Sent to that address and nowhere else. */
  apiKey?: string;
  entity: string;
  /** The project of ids without a slash; `project/name` is in another project of the entity. */
  project: string;
}

/** Where the public service keeps files. */
export const WANDB_HOSTS = ['wandb.ai', 'storage.googleapis.com'];
const MAX_FILES = 1000;
const MAX_ANSWER_BYTES = 4 << 20;

const QUERY = `query CartridgeFiles($entity: String!, $project: String!, $artifact: String!) {
  project(entityName: $entity, name: $project) {
    artifact(name: $artifact) {
      files(first: ${MAX_FILES}) { edges { node { name directUrl sizeBytes md5 } } }
    }
  }
}`;

const fileSchema = z.object({
  name: z.string().min(1).max(1024),
  directUrl: z.url(),
  /** A number that some versions of the service write as text. */
  sizeBytes: z.coerce.number().int().min(0),
  /** 16 bytes in base64. */
  md5: z.string().regex(/^[A-Za-z0-9+/]{22}==$/),
});

const answerSchema = z.object({
  errors: z.array(z.object({ message: z.string() })).optional(),
  data: z
    .object({
      project: z
        .object({ artifact: z.object({ files: z.object({ edges: z.array(z.object({ node: fileSchema })) }) }).nullable() })
        .nullable(),
    })
    .nullish(),
});

type WandbFile = RepositoryFile & { url: string };

/** Cartridges in the latest version of an artifact; the id is the artifact's name, or `project/name`. */
export function wandbSource(options: WandbSourceOptions): RemoteSource {
  const { baseUrl, hosts, retry = DEFAULT_RETRY_POLICY } = options;
  const mayVisit = hostRule(baseUrl, hosts);
  return {
    async fetch({ id, maxBytes, signal, targetFor, onBytes, onRetry }) {
      const retries = { policy: retry, signal, onRetry };
      const files = await withRetries(() => listArtifact(id, options, signal), retries);
      const file = chooseCartridgeFile(files, id, maxBytes) as WandbFile;
      const target = targetFor(file.digest.hex);
      const client = new HubClient({ endpoint: baseUrl, retry: retries, mayVisit });
      await downloadBlob({ client, url: file.url, file, target, onBytes: (done) => onBytes(done, file.sizeBytes) });
      return target;
    },
  };
}

async function listArtifact(id: string, options: WandbSourceOptions, signal: AbortSignal): Promise<WandbFile[]> {
  const [name, project = options.project] = id.split('/').reverse() as [string, string?];
  const artifact = `${name}:latest`;
  const answer = await query(options, { entity: options.entity, project, artifact }, signal);
  const found = answer.data?.project?.artifact;
  if (found) return found.files.edges.map(({ node }) => toFile(node));
  const reason = answer.errors?.[0]?.message.slice(0, 200) ?? 'it does not exist, or the key has no access';
  throw failed(`the artifact ${options.entity}/${project}/${artifact} cannot be read: ${reason}`);
}

function toFile({ name, directUrl, sizeBytes, md5 }: z.infer<typeof fileSchema>): WandbFile {
  checkInnerPath(name, 'DOWNLOAD_FAILED', 'the name of a file of the artifact');
  const hex = Buffer.from(md5, 'base64').toString('hex');
  return { path: name, sizeBytes, digest: { algorithm: 'md5', hex }, url: directUrl };
}

async function query(
  { baseUrl, apiKey }: WandbSourceOptions,
  variables: Record<string, string>,
  signal: AbortSignal,
): Promise<z.infer<typeof answerSchema>> {
  const { host } = new URL(baseUrl);
  const credentials = Buffer.from(`api:${apiKey}`).toString('base64');
  const response = await fetch(`${baseUrl}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(apiKey !== undefined && { authorization: `Basic ${credentials}` }) },
    body: JSON.stringify({ query: QUERY, variables }),
    redirect: 'error',
    signal,
  }).catch((cause: Error) => {
    throw signal.aborted ? cause : new TransientFailure(`${host} cannot be reached`, { cause });
  });
  const text = await readBounded(response);
  if (response.status === 429 || response.status >= 500) throw new TransientFailure(`${host} answered ${response.status}`);
  if (!response.ok) throw failed(`${host} answered ${response.status}`);
  const parsed = answerSchema.safeParse(tryParse(text));
  if (parsed.success) return parsed.data;
  throw failed(`${host} sent an answer that cannot be used`, parsed.error);
}

async function readBounded(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of bodyPieces(response)) {
    sizeBytes += piece.byteLength;
    if (sizeBytes > MAX_ANSWER_BYTES) throw failed(`the answer of Weights & Biases is larger than ${MAX_ANSWER_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function failed(message: string, cause?: unknown): CartridgesError {
  return new CartridgesError('DOWNLOAD_FAILED', message, {
    hint: 'check WANDB_BASE_URL, WANDB_API_KEY, and the entity and project of the settings',
    cause,
  });
}
