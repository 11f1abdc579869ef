import { canonicalJson } from '../../core/hashing.js';
import type { ChatFraming } from '../../models/chat-framing.js';
import type { TemplateVariables } from '../../models/chat-template.js';

/** Framings that are kept; to make one, its template is taken apart anew, which takes some milliseconds. */
const MAX_KEPT = 16;

/** The framing of the model with the template variables that requests ask for. */
export class FramingVariants {
  readonly #base: ChatFraming;
  /** In the order of their last use. */
  readonly #kept = new Map<string, ChatFraming>();

  constructor(base: ChatFraming) {
    this.#base = base;
  }

  /** Throws as {@link ChatFraming.withVariables} does. */
  get(variables: TemplateVariables): ChatFraming {
    const key = canonicalJson(variables);
    if (key === '{}') return this.#base;
    const framing = this.#kept.get(key) ?? this.#base.withVariables(variables);
    this.#kept.delete(key);
    this.#kept.set(key, framing);
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value as string);
    return framing;
  }
}
