import { Hono } from 'hono';
import { expect, test, vi } from 'vitest';
import { whenAnswered } from './when-answered.js';

/** A route whose answer has one chunk and then nothing for ever, and what is called when it is over. */
function openAnswer() {
  const done = vi.fn();
  const cancelled = vi.fn();
  const app = new Hono();
  app.use(async (context, next) => {
    await next();
    whenAnswered(context, done);
  });
  app.get('/', (context) =>
    context.body(new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from('a')), cancel: cancelled })),
  );
  app.get('/json', (context) => context.json({}));
  return { app, done, cancelled };
}

test('a reader who leaves while it waits is told of once, and nothing is made for it any more', async () => {
  const { app, done, cancelled } = openAnswer();
  const reader = (await app.request('/')).body!.getReader();
  await reader.read();
  const waiting = reader.read();
  await new Promise(setImmediate);
  expect(done).not.toHaveBeenCalled();
  await reader.cancel();
  await waiting;
  await new Promise(setImmediate);
  expect(done).toHaveBeenCalledOnce();
  expect(cancelled).toHaveBeenCalledOnce();
});

test('an answer that is made as a whole is complete at once', async () => {
  const { app, done } = openAnswer();
  await app.request('/json');
  expect(done).toHaveBeenCalledOnce();
});

test('of an answer to HEAD nothing is read', async () => {
  const { app, done, cancelled } = openAnswer();
  await app.request('/', { method: 'HEAD' });
  await new Promise(setImmediate);
  expect(done).toHaveBeenCalledOnce();
  expect(cancelled).toHaveBeenCalledOnce();
});
