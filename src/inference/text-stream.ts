/**
 * Turns the bytes of generated tokens into text as they come: a character that a token leaves unfinished waits for the next
 * one, and text that may be the start of a stop string waits until it is clear.
 */
export class TextStream {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #stops: readonly string[];
  #held = '';
  #stopped = false;

  constructor(stops: readonly string[] = []) {
    this.#stops = stops;
  }

  /** A stop string was found; its text and all after it is left out. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes the bytes of a token; gives the text that is certain now. */
  push(bytes: Uint8Array): string {
    this.#held += this.#decoder.decode(bytes, { stream: true });
    return this.#release();
  }

  /** The rest, when no token follows: an unfinished character becomes U+FFFD. */
  end(): string {
    this.#held += this.#decoder.decode();
    const text = this.#release() + this.#held;
    this.#held = '';
    return text;
  }

  #release(): string {
    const found = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((index) => index >= 0);
    this.#stopped = found.length > 0;
    const certain = this.#stopped ? Math.min(...found) : this.#held.length - this.#possibleStop();
    const text = this.#held.slice(0, certain);
    this.#held = this.#stopped ? '' : this.#held.slice(certain);
    return text;
  }

  /** Length of the longest end of the held text that begins a stop string. */
  #possibleStop(): number {
    const longest = this.#stops.reduce((length, stop) => Math.max(length, stop.length - 1), 0);
    for (let length = Math.min(longest, this.#held.length); length > 0; length--) {
      const end = this.#held.slice(-length);
      if (this.#stops.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }
}
