import { CartridgesError } from '../../core/errors.js';
import type { HubClient } from './hub-client.js';

const FILE_LIMIT = 100_000;

/** What the bytes of a file must hash to: SHA-256 of a large file, git's SHA-1 of a blob, or MD5. Lower-case hex. */
export interface Digest {
  algorithm: 'sha256' | 'git-sha1' | 'md5';
  hex: string;
}

export interface RepositoryFile {
  path: string;
  sizeBytes: number;
  digest: Digest;
}

/** The files of a repository at one commit. */
export interface RepositoryListing {
  commit: string;
  files: RepositoryFile[];
}

/** Lists the files of a revision (a branch, a tag or a commit). Everything the hub says is checked before it is used as a name. */
export async function listRepository(client: HubClient, repo: string, revision: string): Promise<RepositoryListing> {
  const what = `${repo} at ${revision}`;
  const api = `${client.endpoint}/api/models/${repo}`;
  const { value } = await client.getJson(`${api}/revision/${encodeURIComponent(revision)}`, what);
  const commit = (value as { sha?: unknown } | null)?.sha;
  if (!isHex(commit, 40)) throw malformed(what, 'the commit is not 40 hex digits');
  const files: RepositoryFile[] = [];
  let url: string | undefined = `${api}/tree/${commit}?recursive=true`;
  while (url !== undefined) {
    const page = await client.getJson(url, what);
    if (!Array.isArray(page.value)) throw malformed(what, 'the list of files is not a list');
    files.push(...page.value.filter((entry) => entry?.type === 'file').map((entry) => toFile(entry, what)));
    if (files.length > FILE_LIMIT) throw malformed(what, `there are more than ${FILE_LIMIT} files`);
    url = page.nextUrl;
  }
  return { commit, files };
}

/** Where the bytes of a file are. */
export function resolveUrl(endpoint: string, repo: string, commit: string, path: string): string {
  return `${endpoint}/${repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
}

/** Throws `INVALID_OPTION` unless the name has the form `org/name`. */
export function checkRepositoryName(repo: string): void {
  if (isRepositoryName(repo)) return;
  throw new CartridgesError('INVALID_OPTION', `${repo} is not the name of a hub repository`, {
    hint: 'it has the form organisation/name, for example Qwen/Qwen3-0.6B-GGUF',
  });
}

export function isRepositoryName(text: string): boolean {
  return /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9_][\w.-]{0,95}$/.test(text) && !text.includes('..') && !text.includes('--');
}

/** Throws `code` unless a `/`-separated path stays inside the folder it is joined to, on every platform. */
export function checkInnerPath(path: string, code: 'INVALID_OPTION' | 'DOWNLOAD_FAILED', what: string): void {
  const segments = path.split('/');
  const escapes = segments.some((segment) => segment === '' || segment === '.' || segment === '..');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (!escapes && !/[\\:\u0000-\u001f]/.test(path) && path.length <= 1024) return;
  throw new CartridgesError(code, `${what} ${JSON.stringify(path)} is not a plain path inside a folder`);
}

function toFile(entry: Record<string, unknown>, what: string): RepositoryFile {
  const { path, oid, size } = entry;
  if (typeof path !== 'string') throw malformed(what, 'a file has no name');
  checkInnerPath(path, 'DOWNLOAD_FAILED', `${what}: the file name`);
  const large = entry['lfs'] as { oid?: unknown; size?: unknown } | null | undefined;
  const sizeBytes = large ? large.size : size;
  if (!Number.isSafeInteger(sizeBytes) || (sizeBytes as number) < 0) throw malformed(what, `${path} has no size`);
  const hex = large ? large.oid : oid;
  if (!isHex(hex, large ? 64 : 40)) throw malformed(what, `${path} has no hash`);
  return { path, sizeBytes: sizeBytes as number, digest: { algorithm: large ? 'sha256' : 'git-sha1', hex } };
}

function isHex(value: unknown, digits: number): value is string {
  return typeof value === 'string' && value.length === digits && /^[0-9a-f]+$/.test(value);
}

function malformed(what: string, reason: string): CartridgesError {
  return new CartridgesError('DOWNLOAD_FAILED', `the hub's listing of ${what} cannot be used: ${reason}`);
}
