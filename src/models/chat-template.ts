import { CartridgesError } from '../core/errors.js';
import { sha256 } from '../core/hashing.js';
import type { Role } from '../core/message.js';
import { BoundedTemplate } from './bounded-template.js';

/** Longest chat template that is read, in UTF-16 units; the templates of tool-calling models stay below 20,000. */
const MAX_TEMPLATE_CHARACTERS = 1 << 18;

/** What `strftime_now` answers. The date is the one that llama-3 templates fall back to where there is no clock. */
const FIXED_DATE: Readonly<Record<string, string>> = {
  '%Y': '2024',
  '%y': '24',
  '%m': '07',
  '%d': '26',
  '%b': 'Jul',
  '%B': 'July',
  '%a': 'Fri',
  '%A': 'Friday',
  '%H': '00',
  '%M': '00',
  '%S': '00',
  '%%': '%',
};

/** A message as the template sees it: a role and white space around a content that stays hidden from the template. */
export interface TemplateMessage {
  role: Role;
  leading?: string;
  trailing?: string;
}

/** A stretch of a rendered chat: the template's own text, or the place of the content of a message (its index). */
export type ChatPart = { text: string } | { message: number };

export interface ChatTemplateSource {
  /** The GGUF's `tokenizer.chat_template`, in Jinja. */
  template: string;
  /** Text of the begin-of-sequence token; empty when the vocabulary has none. */
  bosToken: string;
  eosToken: string;
  /** Further variables that the template sees, such as `enable_thinking: true`. Their texts count as the template's own. */
  variables?: TemplateVariables;
}

export type TemplateVariables = Readonly<Record<string, string | number | boolean | null>>;

/** What a template is always given; {@link TemplateVariables} cannot replace them. */
const OWN_VARIABLES = ['messages', 'add_generation_prompt', 'bos_token', 'eos_token', 'strftime_now'] as const;

/**
 * A model's Jinja chat template, rendered with a mark in place of every content, so that what the template writes and what
 * people write never mix. Templates are shown one fixed date instead of a clock: the same chat always gives the same text.
 * Thinking is switched off where the template has such a switch.
 */
export class ChatTemplate {
  readonly #source: ChatTemplateSource;
  readonly #template: BoundedTemplate;
  /** No text contains a part of its own hash, so the template cannot write this. */
  readonly #mark: string;

  /**
   * Throws `UNSUPPORTED_MODEL` for a template that is missing, too long or not Jinja, or takes too long to read, `INVALID_INPUT`
   * for its own variables.
   */
  constructor(source: ChatTemplateSource) {
    checkVariables(source.variables ?? {});
    if (source.template.trim() === '') {
      throw new CartridgesError('UNSUPPORTED_MODEL', 'the model has no chat template', {
        hint: 'use an instruction-tuned model whose GGUF has tokenizer.chat_template',
      });
    }
    this.#source = source;
    this.#mark = sha256(source.template).slice(0, 24);
    this.#template = parse(source.template);
  }

  /**
   * The rendered chat in pieces, in the order of the text. Throws `INVALID_INPUT` when the template refuses the chat,
   * `UNSUPPORTED_MODEL` when it takes too long.
   */
  render(messages: readonly TemplateMessage[], addGenerationPrompt = false): ChatPart[] {
    const marked = messages.map(({ role, leading = '', trailing = '' }, index) => ({
      role,
      content: `${leading}${this.#mark}[${index}]${trailing}`,
    }));
    const pieces = this.#run(marked, addGenerationPrompt).split(new RegExp(`${this.#mark}\\[(\\d+)\\]`));
    return pieces
      .map((piece, index): ChatPart => (index % 2 === 0 ? { text: piece } : { message: Number(piece) }))
      .filter((part) => !('text' in part) || part.text !== '');
  }

  #run(messages: { role: Role; content: string }[], addGenerationPrompt: boolean): string {
    try {
      return this.#template.render({
        enable_thinking: false,
        ...this.#source.variables,
        messages,
        add_generation_prompt: addGenerationPrompt,
        bos_token: this.#source.bosToken,
        eos_token: this.#source.eosToken,
        strftime_now: (format: string) => format.replace(/%[a-zA-Z%]/g, (code) => FIXED_DATE[code] ?? code),
      });
    } catch (error) {
      if (CartridgesError.is(error)) throw error;
      throw new CartridgesError('INVALID_INPUT', `the model's chat template refuses this chat: ${(error as Error).message}`, {
        hint: 'most templates want an optional system message first, then user and assistant in turn',
        cause: error,
      });
    }
  }
}

function checkVariables(variables: TemplateVariables): void {
  const own = OWN_VARIABLES.find((name) => Object.hasOwn(variables, name));
  if (own === undefined) return;
  throw new CartridgesError('INVALID_INPUT', `the variable ${own} of the chat template cannot be replaced`, {
    hint: 'only what the template asks for beside the chat can be set, such as enable_thinking',
  });
}

function parse(source: string): BoundedTemplate {
  if (source.length > MAX_TEMPLATE_CHARACTERS) {
    throw new CartridgesError(
      'UNSUPPORTED_MODEL',
      `the model's chat template is longer than ${MAX_TEMPLATE_CHARACTERS} characters`,
    );
  }
  try {
    return new BoundedTemplate(source);
  } catch (error) {
    if (CartridgesError.is(error)) throw error;
    throw new CartridgesError('UNSUPPORTED_MODEL', `the model's chat template cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
