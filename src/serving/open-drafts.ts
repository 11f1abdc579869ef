import type { RunOptions } from '../core/progress.js';
import type { Tokenizer } from '../core/tokenizer.js';
import type { DraftSource } from '../inference/drafting/draft-source.js';
import { TextDraft } from '../inference/drafting/text-draft.js';
import { readSource } from '../pipeline/corpus-source.js';
import type { Settings } from '../pipeline/settings.js';
import { namedCorpora } from './named-cartridges.js';

/** The texts of named cartridges, by the cartridge's id. Throws `INVALID_OPTION`, and what reading a text throws. */
export async function readCorpora(serving: Settings['serving'], run: RunOptions): Promise<ReadonlyMap<string, string>> {
  const texts = new Map<string, string>();
  for (const [id, source] of namedCorpora(serving)) texts.set(id, (await readSource(source, run)).text);
  return texts;
}

/** What answers behind a cartridge may quote, by its id. */
export function toDrafts(texts: ReadonlyMap<string, string>, tokenizer: Tokenizer): ReadonlyMap<string, DraftSource> {
  return new Map([...texts].map(([id, text]) => [id, new TextDraft(tokenizer.encode(text))]));
}
