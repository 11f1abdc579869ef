import { toErrorBody } from '../error-response.js';
import { type Answer, tooSlow } from './answer.js';
import { type AnswerWriter, usageBody } from './answer-writer.js';

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // Asks proxies such as nginx to pass every event on as it comes.
  'x-accel-buffering': 'no',
};

/** Tokens that wait are sent together, which is cheaper, but those of a slow reader are not all written at once. */
const MOST_TOKENS_TOGETHER = 32;

export interface StreamOptions {
  slowClientSeconds: number;
  /** Closes the connection of a reader that does not read. */
  dropConnection: (() => void) | undefined;
}

/**
 * The answer as server-sent events. Rejects with what went wrong before the first token, so that this still becomes an answer
 * with a status of its own; a later error is an event, and the last one.
 *
 * An event is made when the reader takes it, so a slow reader holds tokens up and not memory. One that takes nothing for
 * `slowClientSeconds`, or goes away, cancels the answer.
 */
export async function streamAnswer(answer: Answer, writer: AnswerWriter, options: StreamOptions): Promise<Response> {
  const events = answerEvents(answer, writer);
  const first = await events.next();
  return new Response(readEvents(first, events, answer, options), { headers: HEADERS });
}

function readEvents(
  first: IteratorResult<string>,
  events: AsyncGenerator<string>,
  answer: Answer,
  { slowClientSeconds, dropConnection }: StreamOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let next: IteratorResult<string> | undefined = first;
  let isReading = false;
  let timer: NodeJS.Timeout | undefined;
  const drop = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    answer.cancel(tooSlow());
    if (dropConnection) dropConnection();
    else controller.error(tooSlow());
  };
  return new ReadableStream(
    {
      start(controller) {
        timer = setTimeout(() => isReading || drop(controller), slowClientSeconds * 1000).unref();
      },
      async pull(controller) {
        isReading = true;
        const { done, value } = next ?? (await events.next());
        next = undefined;
        isReading = false;
        if (!done) {
          // Also begins it anew when it went off while the reader waited.
          timer?.refresh();
          return controller.enqueue(encoder.encode(value));
        }
        clearTimeout(timer);
        controller.close();
      },
      cancel(reason) {
        clearTimeout(timer);
        answer.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

async function* answerEvents(answer: Answer, writer: AnswerWriter): AsyncGenerator<string, void, undefined> {
  const { tokens } = answer;
  let next = await tokens.next();
  let parts = writer.opening();
  try {
    for (; !next.done; next = await tokens.next()) {
      const together = [next.value, ...tokens.take(MOST_TOKENS_TOGETHER - 1)];
      parts.push(...together.flatMap((token) => writer.part(token) ?? []));
      if (parts.length > 0) yield parts.map(event).join('');
      parts = [];
    }
  } catch (error) {
    yield event(toErrorBody(error));
    return;
  }
  if (answer.request.includeUsage) yield event(writer.closing(usageBody(answer)));
  yield 'data: [DONE]\n\n';
}

function event(body: object): string {
  return `data: ${JSON.stringify(body)}\n\n`;
}
