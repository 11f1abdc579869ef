import { concatenate } from '../core/concatenate.js';
import { CartridgesError } from '../core/errors.js';
import { sha256Json } from '../core/hashing.js';
import type { Message } from '../core/message.js';
import type { Tokenizer } from '../core/tokenizer.js';
import { type ChatPart, ChatTemplate, type ChatTemplateSource, type TemplateVariables } from './chat-template.js';
import { cutContent, discoverTurnPieces, type Turn, type TurnPieces, type TurnRole, turnParts } from './turn-pieces.js';

/** Counts up when the same pieces would be turned into other tokens. */
const FRAMING_VERSION = 1;

const FAMILIES: Readonly<Record<string, string>> = {
  '<|im_start|>user\n': 'chatml',
  '<|start_header_id|>user<|end_header_id|>\n\n': 'llama-3',
};

export interface ChatFramingSource extends ChatTemplateSource {
  tokenizer: Tokenizer;
}

/** The tokens that a student learns to predict: content of one assistant message, [start, end) of the conversation. */
export interface SupervisedSpan {
  start: number;
  end: number;
  messageIndex: number;
}

export interface FramedConversation {
  tokens: Int32Array;
  supervised: SupervisedSpan[];
}

/**
 * Turns chats into token ids: the only place where that happens, for teacher, student, evaluation and server alike. Made once
 * per model, from its own chat template.
 *
 * The template's text is tokenised with its special tokens, contents without: a content that spells `<|im_end|>` stays text.
 * Where a message has `tokenIds`, they are its tokens and its text is not read; a recorded end of turn is not doubled.
 *
 * @example
 * const framing = new ChatFraming({ template, bosToken: '', eosToken: '<|im_end|>', tokenizer });
 * framing.encodeTurns([{ role: 'user', content: 'Hi' }], { addGenerationPrompt: true, bos: false });
 */
export class ChatFraming {
  /** `chatml`, `llama-3` or `custom`: for people, `hash` decides. */
  readonly name: string;
  /** SHA-256 of the template and of the pieces found in it. */
  readonly hash: string;
  /** What ends an assistant turn, up to the first token that ends a generation. */
  readonly endOfTurnTokens: Int32Array;

  readonly #source: ChatFramingSource;
  readonly #tokenizer: Tokenizer;
  readonly #template: ChatTemplate;
  readonly #pieces: TurnPieces;

  /** Throws `UNSUPPORTED_MODEL` when the template cannot be split into turns, in text or in tokens. */
  constructor(framingSource: ChatFramingSource) {
    const { tokenizer, ...source } = framingSource;
    this.#source = framingSource;
    this.#tokenizer = tokenizer;
    this.#template = new ChatTemplate(source);
    this.#pieces = discoverTurnPieces(this.#template, source.bosToken);
    this.name = FAMILIES[this.#pieces.turns.user.header] ?? 'custom';
    this.hash = sha256Json({ version: FRAMING_VERSION, template: source.template, pieces: this.#pieces });
    this.endOfTurnTokens = this.#findEndOfTurn();
    this.#checkTokens();
  }

  /**
   * The framing of the same template with other variables. Throws `INVALID_INPUT` for variables that are the template's own,
   * `UNSUPPORTED_MODEL` when the template cannot be split into turns with them.
   */
  withVariables(variables: TemplateVariables): ChatFraming {
    return new ChatFraming({ ...this.#source, variables: { ...this.#source.variables, ...variables } });
  }

  /** Plain text outside any chat, with the begin-of-sequence token in front when `bos` is set and the template has one. */
  encodeText(text: string, options: { bos: boolean }): Int32Array {
    const content = this.#tokenizer.encode(text);
    return options.bos ? concatenate(Int32Array, [this.#encodeOwn(this.#pieces.bos), content]) : content;
  }

  /**
   * What the model reads before it answers: the whole chat, or behind a cartridge the turns alone. An assistant message at the
   * end is continued: it stands behind the generation prompt, and its turn stays open.
   *
   * Behind a cartridge a first message with the role `system` becomes a system turn without begin-of-sequence token. No training
   * ever saw one there. Throws as {@link encodeChat} and {@link encodeTurns} do, and `UNSUPPORTED_MODEL` where the template has
   * no system turn of its own.
   */
  encodePrompt(messages: readonly Message[], options: { behindCartridge: boolean }): Int32Array {
    const last = messages.at(-1);
    const reply = last?.role === 'assistant' ? last : undefined;
    const chat = reply ? messages.slice(0, -1) : messages;
    const prompt = options.behindCartridge
      ? this.#encodeBehindCartridge(chat)
      : this.encodeChat(chat, { addGenerationPrompt: true });
    return reply ? concatenate(Int32Array, [prompt, this.#contentTokens(reply)]) : prompt;
  }

  /**
   * The whole chat as the model's own template gives it, with its begin-of-sequence token and its default system text.
   * Throws `INVALID_INPUT` when the template refuses the chat, `UNSUPPORTED_MODEL` for a system message it has no place for.
   */
  encodeChat(messages: readonly Message[], options: { addGenerationPrompt: boolean }): Int32Array {
    const { system } = this.#pieces;
    if (system.kind === 'absent' && messages.some(({ role }) => role === 'system')) throw noSystem(system.reason);
    const parts = this.#template.render(messages, options.addGenerationPrompt);
    const placed = parts.flatMap((part) => ('message' in part ? [part.message] : []));
    const missing = messages.findIndex((_message, index) => !placed.includes(index));
    if (missing >= 0) {
      throw new CartridgesError('INVALID_INPUT', `the model's chat template leaves message ${missing + 1} of the chat out`);
    }
    return this.#encodeParts(parts, messages);
  }

  /**
   * The turns without any system text, not even the template's default one: what stands behind a cartridge (`bos` false), or
   * alone (`bos` true: with the begin-of-sequence token if the template starts with it). Throws `INVALID_INPUT` for a system
   * message.
   */
  encodeTurns(messages: readonly Message[], options: { addGenerationPrompt: boolean; bos: boolean }): Int32Array {
    const parts = turnParts(this.#pieces, turnRoles(messages), options.addGenerationPrompt);
    return this.#encodeParts(options.bos ? [{ text: this.#pieces.bos }, ...parts] : parts, messages);
  }

  /** Tokens of a system message without a text; 0 where the template has no system turn. */
  get systemFrameTokens(): number {
    const { system } = this.#pieces;
    return system.kind === 'turn' ? this.#encodeOwn(system.head).length + this.#encodeOwn(system.tail).length : 0;
  }

  /**
   * The system message with `text`, begin-of-sequence token included: what the model reads before the first turn.
   *
   * With `maxTokens` the text loses tokens at its end (`keep` `end`: at its start) until framing and text together are exactly
   * that many; a text that is too short gives fewer, which the caller must expect. Throws `INVALID_OPTION` when not even one
   * token of text fits beside the framing, `UNSUPPORTED_MODEL` when the template has no system turn.
   */
  encodeSystemPrefix(text: string, maxTokens = Number.POSITIVE_INFINITY, keep: 'start' | 'end' = 'start'): Int32Array {
    const system = this.#systemTurn();
    const head = this.#encodeOwn(system.header);
    const tail = this.#encodeOwn(system.tail);
    const room = maxTokens - head.length - tail.length;
    if (room < 1) {
      throw new CartridgesError('INVALID_OPTION', `${maxTokens} tokens are too few for the system message of this model`, {
        hint: `its framing alone takes ${head.length + tail.length} tokens: ask for more`,
      });
    }
    const content = this.#tokenizer.encode(cutContent(text, this.#pieces.cut.system));
    const surplus = Math.max(0, content.length - room);
    const kept = keep === 'start' ? content.subarray(0, content.length - surplus) : content.subarray(surplus);
    return concatenate(Int32Array, [head, kept, tail]);
  }

  /**
   * A conversation as a student reads it behind a cartridge: header and content of every message, what ends a turn between
   * messages, nothing after the last one. Supervised are the contents of assistant messages with a recorded end of turn. An
   * assistant message at the end stands behind the generation prompt, as when it was generated.
   */
  encodeConversation(messages: readonly Message[]): FramedConversation {
    const pieces: Int32Array[] = [];
    const supervised: SupervisedSpan[] = [];
    let length = 0;
    const push = (tokens: Int32Array) => {
      pieces.push(tokens);
      length += tokens.length;
    };
    turnRoles(messages).forEach((role, messageIndex) => {
      const message = messages[messageIndex] as Message;
      const isLast = messageIndex === messages.length - 1;
      const { header, tail } = this.#pieces.turns[role];
      const closing = isLast ? NONE : this.#encodeOwn(tail);
      const recordedEnd = isLast || startsWith(closing, this.endOfTurnTokens) ? this.#recordedEnd(message) : NONE;
      push(this.#encodeOwn(isLast && role === 'assistant' ? this.#pieces.generationPrompt : header));
      const start = length;
      push(this.#contentTokens(message));
      push(recordedEnd);
      if (role === 'assistant') supervised.push({ start, end: length, messageIndex });
      push(closing.subarray(recordedEnd.length));
    });
    return { tokens: concatenate(Int32Array, pieces), supervised };
  }

  #encodeBehindCartridge(messages: readonly Message[]): Int32Array {
    const [first, ...rest] = messages;
    if (first?.role !== 'system') return this.encodeTurns(messages, BEHIND_CARTRIDGE);
    const { header, tail } = this.#systemTurn();
    const { bos } = this.#pieces;
    return concatenate(Int32Array, [
      this.#encodeOwn(header.startsWith(bos) ? header.slice(bos.length) : header),
      this.#contentTokens(first),
      this.#encodeOwn(tail),
      this.encodeTurns(rest, BEHIND_CARTRIDGE),
    ]);
  }

  #systemTurn(): Turn {
    const { system } = this.#pieces;
    if (system.kind === 'turn') return { header: system.head, tail: system.tail };
    throw noSystem(system.kind === 'absent' ? system.reason : 'its template puts the system text inside a user turn');
  }

  #encodeParts(parts: readonly ChatPart[], messages: readonly Message[]): Int32Array {
    return concatenate(
      Int32Array,
      joinTexts(parts).map((part) =>
        'text' in part ? this.#encodeOwn(part.text) : this.#contentTokens(messages[part.message] as Message),
      ),
    );
  }

  /** Tokens of the template's own text. */
  #encodeOwn(text: string): Int32Array {
    return this.#tokenizer.encode(text, { parseSpecial: true });
  }

  /** Tokens of a content, without a recorded end of turn. */
  #contentTokens(message: Message): Int32Array {
    const { role, content, tokenIds } = message;
    if (tokenIds) return tokenIds.subarray(0, tokenIds.length - this.#recordedEnd(message).length);
    return this.#tokenizer.encode(cutContent(content, this.#pieces.cut[role]));
  }

  #recordedEnd({ tokenIds }: Message): Int32Array {
    const end = this.endOfTurnTokens;
    if (!tokenIds || tokenIds.length < end.length) return NONE;
    return startsWith(tokenIds.subarray(tokenIds.length - end.length), end) ? end : NONE;
  }

  #findEndOfTurn(): Int32Array {
    const tail = this.#encodeOwn(this.#pieces.turns.assistant.tail);
    const end = tail.findIndex((token) => this.#tokenizer.isEndOfGeneration(token));
    if (end >= 0) return tail.slice(0, end + 1);
    throw new CartridgesError('UNSUPPORTED_MODEL', "the model's chat template ends an assistant turn without an end token", {
      hint: 'use a model whose template closes every turn, such as ChatML, llama-3 or qwen',
    });
  }

  /** Pieces that are tokenised apart must give the tokens of the template's text as a whole. */
  #checkTokens(): void {
    const question: Message = { role: 'user', content: 'x' };
    const answer: Message = { role: 'assistant', content: 'x' };
    const turns = [question, answer, question];
    const closing = this.#encodeOwn(this.#pieces.turns.user.tail);
    const open = { addGenerationPrompt: true, bos: false };
    checkEqual(
      [this.encodeConversation(turns).tokens, closing],
      this.encodeTurns(turns, { ...open, addGenerationPrompt: false }),
    );
    checkEqual([this.encodeTurns(turns, open), this.#contentTokens(answer)], this.encodeConversation([...turns, answer]).tokens);
    if (this.#pieces.system.kind !== 'turn') return;
    const whole = this.encodeChat([{ role: 'system', content: 'x' }, ...turns], open);
    checkEqual([this.encodeSystemPrefix('x'), this.encodeTurns(turns, open)], whole);
  }
}

const NONE = new Int32Array(0);
const BEHIND_CARTRIDGE = { addGenerationPrompt: true, bos: false };

function turnRoles(messages: readonly Message[]): TurnRole[] {
  return messages.map(({ role }) => {
    if (role !== 'system') return role;
    throw new CartridgesError('INVALID_INPUT', 'a system message stands among turns that must have none', {
      hint: 'a cartridge takes the place of the system message: leave it out',
    });
  });
}

function noSystem(reason: string): CartridgesError {
  return new CartridgesError('UNSUPPORTED_MODEL', `this model takes no system message: ${reason}`, {
    hint: 'use a model whose chat template has a system role, such as ChatML, llama-3 or qwen',
  });
}

function checkEqual(apart: readonly Int32Array[], whole: Int32Array): void {
  const joined = concatenate(Int32Array, apart);
  if (joined.length === whole.length && startsWith(joined, whole)) return;
  throw new CartridgesError(
    'UNSUPPORTED_MODEL',
    "the tokens of the model's chat template change where its turns are put together",
    {
      hint: 'use a model whose template puts special tokens between turns, such as ChatML, llama-3 or qwen',
    },
  );
}

function joinTexts(parts: readonly ChatPart[]): ChatPart[] {
  const joined: ChatPart[] = [];
  for (const part of parts) {
    const previous = joined.at(-1);
    if (previous && 'text' in previous && 'text' in part) joined[joined.length - 1] = { text: previous.text + part.text };
    else joined.push(part);
  }
  return joined;
}

function startsWith(tokens: Int32Array, start: Int32Array): boolean {
  return start.length <= tokens.length && start.every((token, index) => tokens[index] === token);
}
