import { createParser, type ParseError } from 'eventsource-parser';
import { CartridgesError } from '../core/errors.js';

/** Longest event in characters: a piece of an answer has a few hundred. */
const MAX_EVENT_LENGTH = 1 << 20;

/** The data of each event in a body that comes in pieces, which may be cut anywhere. Throws `SERVER_FAILED` for an endless event. */
export async function* readEvents(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const events: string[] = [];
  let failure: ParseError | undefined;
  const decoder = new TextDecoder();
  const parser = createParser({
    onEvent: ({ data }) => events.push(data),
    // A field that the standard does not know is to be ignored; only what is too long ends the reading.
    onError: (error) => {
      if (error.type === 'max-buffer-size-exceeded') failure = error;
    },
    maxBufferSize: MAX_EVENT_LENGTH,
  });
  for await (const piece of pieces) {
    parser.feed(decoder.decode(piece, { stream: true }));
    yield* events.splice(0);
    if (failure) {
      throw new CartridgesError('SERVER_FAILED', `the server sent an event of more than ${MAX_EVENT_LENGTH} characters`, {
        cause: failure,
      });
    }
  }
}
