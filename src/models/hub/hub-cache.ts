import { copyFile, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { partBeside, writeFileAtomic } from '../../core/files.js';

/**
 * The Hugging Face cache: `models--org--name/` with the bytes once under `blobs/<hash>`, a tree of links to them per commit
 * under `snapshots/<commit>/`, and the commit of each branch in `refs/`. Other tools read and write the same folders.
 */
export class HubCache {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Where the bytes with a hash (hex) belong. */
  blobPath(repo: string, hash: string): string {
    return join(this.#repositoryFolder(repo), 'blobs', hash);
  }

  /** Links a blob into the snapshot of a commit and notes the commit of the revision. Returns the path of the link. */
  async addToSnapshot(repo: string, revision: string, commit: string, path: string, blob: string): Promise<string> {
    const link = join(this.#repositoryFolder(repo), 'snapshots', commit, ...path.split('/'));
    await mkdir(dirname(link), { recursive: true });
    await replaceLink(blob, link);
    if (revision !== commit) {
      await writeFileAtomic(join(this.#repositoryFolder(repo), 'refs', ...revision.split('/')), commit);
    }
    return link;
  }

  /** Repositories in the cache, as `org/name`, sorted. */
  async repositories(): Promise<string[]> {
    const names = await entriesOf(this.folder);
    return names
      .map((name) => /^models--(.+?)--(.+)$/.exec(name))
      .filter((match) => match !== null)
      .map(([, organisation, name]) => `${organisation}/${name}`)
      .sort();
  }

  /** The cached files of a repository by their path in it, those of `main` before those of other snapshots. */
  async files(repo: string): Promise<Map<string, string>> {
    const folder = this.#repositoryFolder(repo);
    const main = await readFile(join(folder, 'refs', 'main'), 'utf8').catch(() => '');
    const commits = await foldersIn(join(folder, 'snapshots'));
    const files = new Map<string, string>();
    for (const commit of commits.sort((a, b) => Number(b === main.trim()) - Number(a === main.trim()))) {
      const snapshot = join(folder, 'snapshots', commit);
      for (const path of await filesBelow(snapshot)) {
        const key = relative(snapshot, path).replaceAll('\\', '/');
        if (!files.has(key)) files.set(key, path);
      }
    }
    return files;
  }

  #repositoryFolder(repo: string): string {
    return join(this.folder, `models--${repo.replace('/', '--')}`);
  }
}

/** Under another name first: two processes may do it at once, and a reader finds the link at every time. */
async function replaceLink(blob: string, link: string): Promise<void> {
  const temporary = partBeside(link);
  try {
    await linkOrCopy(blob, temporary);
    await rename(temporary, link);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** A relative link, so that the cache can be moved. Windows allows links only to some users; the others get a copy. */
async function linkOrCopy(blob: string, link: string): Promise<void> {
  try {
    await symlink(relative(dirname(link), blob), link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    await copyFile(blob, link);
  }
}

/** Names in a folder; none when there is no such folder. */
async function entriesOf(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

/** Names of the folders in a folder; others put files like `.DS_Store` beside them. */
async function foldersIn(folder: string): Promise<string[]> {
  const names = await entriesOf(folder);
  const kinds = await Promise.all(names.map((name) => stat(join(folder, name)).catch(() => undefined)));
  return names.filter((_name, index) => kinds[index]?.isDirectory());
}

/** Files below a folder, links to files included. A link to nothing (a blob that was deleted) is left out. */
async function filesBelow(folder: string): Promise<string[]> {
  const paths = (await readdir(folder, { recursive: true })).sort().map((name) => join(folder, name));
  const kinds = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
  return paths.filter((_path, index) => kinds[index]?.isFile());
}
