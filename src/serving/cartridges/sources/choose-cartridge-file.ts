import { CartridgesError } from '../../../core/errors.js';
import { formatBytes } from '../../../core/format-bytes.js';
import type { RepositoryFile } from '../../../models/hub/repository.js';

/**
 * The one file of a repository or artifact that is a cartridge: `*.cartridge.safetensors` or `cartridge.safetensors`, else the
 * only `.safetensors`. Throws `DOWNLOAD_FAILED` when that is not clear, or when the file is too large.
 */
export function chooseCartridgeFile(files: readonly RepositoryFile[], where: string, maxBytes: number): RepositoryFile {
  const candidates = files.filter(({ path }) => path.endsWith('.safetensors'));
  const named = candidates.filter(({ path }) => /(^|[./])cartridge\.safetensors$/.test(path));
  const chosen = named.length > 0 ? named : candidates;
  if (chosen.length !== 1) throw unclear(chosen, files, where);
  const [file] = chosen as [RepositoryFile];
  if (file.sizeBytes <= maxBytes) return file;
  throw new CartridgesError(
    'DOWNLOAD_FAILED',
    `${file.path} of ${where} has ${formatBytes(file.sizeBytes)}, more than the ${formatBytes(maxBytes)} that this server takes`,
  );
}

function unclear(chosen: readonly RepositoryFile[], files: readonly RepositoryFile[], where: string): CartridgesError {
  if (chosen.length > 1) {
    const names = chosen.map(({ path }) => path).sort();
    return new CartridgesError(
      'DOWNLOAD_FAILED',
      `${where} has ${names.length} files that could be the cartridge: ${names.join(', ')}`,
      {
        hint: 'leave one of them, or name it cartridge.safetensors',
      },
    );
  }
  const hint = files.some(({ path }) => path.endsWith('.pt'))
    ? 'it has a .pt of the Python original: make a cartridge of it with cartridges import, and upload that'
    : 'put the .safetensors file of a cartridge there';
  return new CartridgesError('DOWNLOAD_FAILED', `${where} has no cartridge`, { hint });
}
