import type { Message } from '../../core/message.js';
import { JSON_OBJECT_GRAMMAR, jsonSchemaToGrammar } from '../../inference/grammar/json-schema-grammar.js';
import type { AnswerLimits } from './answer-limits.js';
import { type AnswerRequest, readSharedFields } from './answer-request.js';
import { extractCartridgeBlocks } from './cartridge-blocks.js';
import type { ChatRequestBody, ChatRequestMessage } from './chat-request.js';
import type { FramingVariants } from './framing-variants.js';
import { checkPromptSize } from './prompt-size.js';
import { blaming, refusal } from './refusals.js';
import type { CartridgeField } from './request-fields.js';

/** Reads the body of a chat request. Throws `RequestError` where fields contradict each other or cannot be honoured. */
export function readChatRequest(body: ChatRequestBody, framings: FramingVariants, limits: AnswerLimits): AnswerRequest {
  const { messages, blocks, blockParam } = readMessages(body.messages);
  const contents = messages.map(({ content }) => content);
  checkPromptSize(contents, 'messages', limits);
  const variables = body.apply_chat_template_overrides ?? {};
  const framing = blaming('apply_chat_template_overrides', () => framings.get(variables));
  return {
    ...readSharedFields(body),
    names: { model: body.model, field: body.cartridges ?? [], blocks, blockParam, order: body.cartridge_order },
    encode: (behindCartridge) => [framing.encodePrompt(messages, { behindCartridge })],
    promptCount: 1,
    promptParam: 'messages',
    hasSystemMessage: messages.some(({ role }) => role === 'system'),
    topLogprobs: readTopLogprobs(body),
    grammar: readGrammar(body),
  };
}

/** The chat without the cartridges that its system messages name; a system message that said nothing else is left out. */
function readMessages(given: readonly ChatRequestMessage[]) {
  const blocks: CartridgeField[] = [];
  let blockParam: string | undefined;
  const messages = given.flatMap((message, index): Message[] => {
    const read = toMessage(message);
    if (read.role !== 'system') return [read];
    const param = `messages[${index}].content`;
    const { cartridges, text } = extractCartridgeBlocks(read.content, param);
    if (cartridges.length === 0) return [read];
    blocks.push(...cartridges);
    blockParam ??= param;
    return text === '' ? [] : [{ ...read, content: text }];
  });
  return { messages, blocks, blockParam };
}

function toMessage({ role, content }: ChatRequestMessage): Message {
  return {
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  };
}

function readTopLogprobs(body: ChatRequestBody): number | undefined {
  const { logprobs, top_logprobs, logprobs_in_fingerprint } = body;
  if (typeof top_logprobs === 'number' && !logprobs) throw refusal('top_logprobs', 'top_logprobs needs logprobs to be true');
  return logprobs || logprobs_in_fingerprint ? (top_logprobs ?? 0) : undefined;
}

function readGrammar({ response_format: format, ignore_eos }: ChatRequestBody): string | undefined {
  if (!format || format.type === 'text') return undefined;
  if (ignore_eos) throw refusal('ignore_eos', 'an answer in JSON ends where it is complete');
  if (format.type === 'json_object') return JSON_OBJECT_GRAMMAR;
  const { schema } = format.json_schema;
  return blaming('response_format.json_schema.schema', () => jsonSchemaToGrammar(schema));
}
