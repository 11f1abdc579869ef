import { writeFileAtomic } from '../../core/files.js';
import { type Dataset, loadConversations } from './open-dataset.js';
import { encodeUpstream } from './upstream-format.js';

/**
 * Writes a dataset as one Parquet file that the Python project reads, and returns the number of conversations. All of them are
 * in memory meanwhile. Throws `INVALID_DATASET` and `DISK_FULL`.
 */
export async function writeUpstreamDataset(path: string, dataset: Dataset, signal?: AbortSignal): Promise<number> {
  const conversations = await loadConversations(dataset, signal);
  await writeFileAtomic(path, encodeUpstream(conversations));
  return conversations.length;
}
