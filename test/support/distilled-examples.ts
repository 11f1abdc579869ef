import { computeTextRows } from '../../src/cartridge/initializers/text-rows.js';
import type { ChatFraming } from '../../src/models/chat-framing.js';
import type { FrozenModel } from '../../src/models/frozen-model.js';
import { type KeyValueRows, runForward } from '../../src/models/run-forward.js';
import type { TrainingExample } from '../../src/training/examples.js';

const ENTRIES = 20;

/** Questions about a text with their answers, and what the model itself expects at every token when it has read the text. */
export async function distilledExamples(
  model: FrozenModel,
  framing: ChatFraming,
  text: string,
  turns: readonly { question: string; answer: string }[],
): Promise<{ examples: TrainingExample[]; textRows: KeyValueRows }> {
  const textRows = await computeTextRows(model, framing.encodeSystemPrefix(text));
  const examples: TrainingExample[] = [];
  for (const [index, { question, answer }] of turns.entries()) {
    const messages = [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ] as const;
    const tokens = framing.encodeTurns(messages, { addGenerationPrompt: false, bos: false });
    const { logits } = await runForward(model, { tokens, prefix: textRows, wantLogits: true });
    examples.push(toExample(String(index), tokens, logits));
  }
  return { examples, textRows };
}

/** The first rows of each layer: what a cartridge of so many tokens starts from. */
export function firstRows(
  { keys, values }: KeyValueRows,
  { kvHeads, headDimension }: FrozenModel['config'],
  count: number,
): KeyValueRows {
  const cut = (layers: readonly Float32Array[]) => layers.map((layer) => layer.slice(0, count * kvHeads * headDimension));
  return { keys: cut(keys), values: cut(values) };
}

function toExample(id: string, tokens: Int32Array, logits: Float32Array): TrainingExample {
  const vocabularySize = logits.length / tokens.length;
  const rows = Int32Array.from({ length: tokens.length - 1 }, (_, row) => row);
  const entries = [...rows].flatMap((row) => likeliest(logits.subarray(row * vocabularySize, (row + 1) * vocabularySize)));
  return {
    id,
    tokens,
    rows,
    rowEnds: rows.map((row) => (row + 1) * ENTRIES),
    tokenIds: Int32Array.from(entries, ([token]) => token),
    logprobs: Float32Array.from(entries, ([, logprob]) => logprob),
    entriesPerRow: ENTRIES,
  };
}

function likeliest(logits: Float32Array): [token: number, logprob: number][] {
  const largest = logits.reduce((best, logit) => Math.max(best, logit));
  const total = largest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]!);
  return order.slice(0, ENTRIES).map((token) => [token, logits[token]! - total]);
}
