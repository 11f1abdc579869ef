import { type CartridgesError, toCartridgesError } from '../../core/errors.js';
import type { ChatContext } from '../../pipeline/chat-backend.js';
import type { ChatSession } from '../../pipeline/chat-session.js';
import type { TimedAnswer } from '../../pipeline/timed-answer.js';
import { formatSeconds, printable, printableLines } from '../format.js';
import { textWidth, wrapText } from './wrap-text.js';

interface ComparedContext {
  title: string;
  context: ChatContext;
}

/** An answer to the compared question, or why there is none. */
export interface ComparedAnswer {
  title: string;
  outcome: TimedAnswer | CartridgesError;
}

/** What a question can be asked behind: the cartridge of the chat, the full text, and nothing. */
export function comparedContexts(cartridge: string | undefined, text: string | undefined): ComparedContext[] {
  return [
    ...(cartridge === undefined ? [] : [{ title: cartridge, context: { kind: 'cartridge', name: cartridge } as const }]),
    ...(text === undefined ? [] : [{ title: 'full text', context: { kind: 'text', text } as const }]),
    { title: 'nothing', context: { kind: 'none' } },
  ];
}

/** Asks the same question behind each context, one after the other, so that the times are those of one user alone. */
export async function* compareAnswers(
  chat: ChatSession,
  question: string,
  contexts: readonly ComparedContext[],
  signal: AbortSignal,
): AsyncGenerator<ComparedAnswer> {
  for (const { title, context } of contexts) {
    try {
      yield { title, outcome: await chat.askAlone(question, context, signal) };
    } catch (thrown) {
      const error = toCartridgesError(thrown);
      if (error.code === 'CANCELLED') throw error;
      yield { title, outcome: error };
    }
  }
}

/** Narrower columns cannot be read. */
const LEAST_COLUMN_WIDTH = 28;
const BETWEEN = ' │ ';

/** The answers side by side when `columns` of the terminal are enough, else one below the other. */
export function formatComparison(answers: readonly ComparedAnswer[], columns = 0): string {
  const width = Math.floor((columns - (answers.length - 1) * BETWEEN.length) / answers.length);
  return width < LEAST_COLUMN_WIDTH ? oneBelowTheOther(answers) : sideBySide(answers, width);
}

function oneBelowTheOther(answers: readonly ComparedAnswer[]): string {
  return answers
    .map(({ title, outcome }) => [`── ${printable(title)}`, bodyOf(outcome), ...costOf(outcome), ''].join('\n'))
    .join('\n');
}

function sideBySide(answers: readonly ComparedAnswer[], width: number): string {
  const blocks = answers.map(({ title, outcome }) => ({
    head: [...wrapText(printable(title), width), '─'.repeat(width)],
    body: wrapText(bodyOf(outcome), width),
    foot: ['', ...costOf(outcome).flatMap((line) => wrapText(line, width))],
  }));
  const rows = (['head', 'body', 'foot'] as const).flatMap((part) =>
    joinColumns(
      blocks.map((block) => block[part]),
      width,
    ),
  );
  return rows.map((row) => `${row}\n`).join('');
}

function joinColumns(columns: readonly (readonly string[])[], width: number): string[] {
  const height = Math.max(...columns.map((lines) => lines.length));
  return Array.from({ length: height }, (_, row) =>
    columns
      .map((lines) => pad(lines[row] ?? '', width))
      .join(BETWEEN)
      .trimEnd(),
  );
}

function pad(line: string, width: number): string {
  return line + ' '.repeat(Math.max(0, width - textWidth(line)));
}

function bodyOf(outcome: TimedAnswer | CartridgesError): string {
  return 'code' in outcome ? `failed: ${printable(outcome.message)}` : printableLines(outcome.text.trim());
}

function costOf(outcome: TimedAnswer | CartridgesError): string[] {
  if ('code' in outcome) return [];
  const { usage, timeToFirstTokenMs, totalMs } = outcome;
  const time = `first token ${formatTime(timeToFirstTokenMs)}`;
  if (usage === undefined) return [`${time}, whole answer ${formatTime(totalMs)}`];
  const rows = usage.cartridgeTokens ? `${usage.cartridgeTokens} rows + ` : '';
  const reused = usage.cachedPromptTokens > 0 ? `, ${usage.cachedPromptTokens} reused` : '';
  return [
    `read: ${rows}${usage.promptTokens} tokens${reused}`,
    `${time}, ${usage.completionTokens} tokens in ${formatTime(totalMs)}`,
  ];
}

function formatTime(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : formatSeconds(milliseconds / 1000);
}
