import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Message } from '../src/core/message.js';
import { ChatFraming } from '../src/models/chat-framing.js';
import { readGguf } from '../src/models/gguf.js';
import { LlamaTokenizer } from '../src/models/tokenizer.js';
import { loadEngine } from '../src/native/engine.js';
import { makeExamples } from '../src/training/examples.js';
import { goldenNames, readGolden } from './support/golden.js';

describe.each(goldenNames())('%s', (name) => {
  const golden = readGolden(name);
  let tokenizer: LlamaTokenizer;
  let framing: ChatFraming;
  beforeAll(async () => {
    tokenizer = await LlamaTokenizer.load(loadEngine(), golden.path);
    const template = readGguf(golden.path).string('tokenizer.chat_template');
    framing = new ChatFraming({ template, bosToken: tokenizer.bosText, eosToken: tokenizer.eosText, tokenizer });
  });
  afterAll(() => tokenizer.dispose());

  const conversations = golden.conversations.map(({ messages }, index) => ({
    id: String(index),
    systemPrompt: '',
    type: 'question',
    metadata: { seedPrompt: '' },
    messages: messages.map(({ role, content, token_ids: tokenIds, top_logprobs: top }): Message => {
      const topLogprobs = top && {
        tokenIndex: Int32Array.from(top.token_idx),
        tokenId: Int32Array.from(top.token_id),
        logprob: Float32Array.from(top.logprobs),
        rows: top.shape[0],
        k: top.shape[1],
      };
      return { role, content, ...(tokenIds && { tokenIds: Int32Array.from(tokenIds) }), ...(topLogprobs && { topLogprobs }) };
    }),
  }));

  test('chats become the tokens of the template', () => {
    for (const chat of golden.chat_template) {
      const tokens = framing.encodeChat(chat.messages, { addGenerationPrompt: chat.add_generation_prompt });
      expect([...tokens]).toEqual(chat.token_ids);
    }
  });

  test('conversations become the tokens behind a cartridge', () => {
    const framed = conversations.flatMap(({ messages }) => [...framing.encodeConversation(messages).tokens]);
    expect(framed).toEqual(golden.pack.tokens);
  });

  test('the teacher’s entries stand at the tokens that predict them', () => {
    const { examples } = makeExamples(conversations, framing, {
      targets: 'distillation',
      maxTokens: 512,
      vocabularySize: golden.model.vocab,
    });
    const rows: number[] = [];
    let offset = 0;
    for (const example of examples) {
      example.rows.forEach((row, index) => {
        const entries = example.rowEnds[index]! - (example.rowEnds[index - 1] ?? 0);
        rows.push(...new Array<number>(entries).fill(offset + row));
      });
      offset += example.tokens.length;
    }
    expect(rows).toEqual(golden.targets.logits_row);
    expect(examples.flatMap(({ tokenIds }) => [...tokenIds])).toEqual(golden.targets.token_id);
  });
});
