import { join } from 'node:path';
import { type ColumnSource, parquetWriteBuffer } from 'hyparquet-writer';
import { writeFileAtomic, writeJsonAtomic } from '../core/files.js';
import { formatBytes } from '../core/format-bytes.js';
import { CONDITION_TITLES, CONDITIONS, type ConditionName, type ConditionReport, type PerCondition } from './conditions.js';
import type { AnswerRow } from './generation-eval.js';

/** The result of an evaluation as scripts read it. Accuracies and rates are 0 to 1. */
export interface EvaluationReport {
  /** `otherQuantization`: it was trained with another quantisation of the model than the one that was asked. */
  cartridge: { path: string; tokens: number; otherQuantization?: true };
  corpus: { tokens: number };
  /** Number of questions about the text. */
  questions: number;
  /** Number of held-out conversations, when there are any. */
  conversations?: number;
  /** Per stage, and in total. */
  seconds: { [stage: string]: number; total: number };
  conditions: PerCondition<ConditionReport>;
  /** Bytes of keys and values of the full text over those of the cartridge. */
  compression: number;
  /** Share of unanswerable questions that were refused; empty without such questions. */
  abstention: Partial<PerCondition<number>>;
  /** Accuracy on questions that need no text; empty without such questions. */
  general: Partial<PerCondition<number>>;
}

/** An answer with where it belongs, as one row of `answers.parquet`. */
export interface ReportedAnswer extends AnswerRow {
  condition: ConditionName;
  set: 'questions' | 'unanswerable' | 'general';
}

/**
 * A table with a row for each condition, and sentences about what the numbers need to be read rightly. Plain text, lines ended
 * by `\n`.
 */
export function formatReport(report: EvaluationReport): string {
  return [...alignColumns(tableOf(report)), '', ...notesOf(report)].map((line) => `${line.trimEnd()}\n`).join('');
}

/** Writes `report.json` and `answers.parquet` into a folder, each whole or not at all; the report comes last. */
export async function writeReport(folder: string, report: EvaluationReport, answers: readonly ReportedAnswer[]): Promise<void> {
  await writeFileAtomic(
    join(folder, 'answers.parquet'),
    new Uint8Array(parquetWriteBuffer({ columnData: answerColumns(answers) })),
  );
  await writeJsonAtomic(join(folder, 'report.json'), report);
}

function tableOf(report: EvaluationReport): string[][] {
  const hasAbstention = Object.keys(report.abstention).length > 0;
  const hasGeneral = Object.keys(report.general).length > 0;
  const hasConversations = report.conversations !== undefined;
  const header = ['', 'accuracy', 'perplexity', 'KV cache', 'prompt tokens', 'first token', 'decode'];
  if (hasAbstention) header.push('refused');
  if (hasGeneral) header.push('general');
  if (hasConversations) header.push('held-out perplexity');
  const rows = CONDITIONS.map((name) => {
    const row = conditionCells(name, report.conditions[name]);
    if (hasAbstention) row.push(formatShare(report.abstention[name]));
    if (hasGeneral) row.push(formatShare(report.general[name]));
    if (hasConversations) row.push(formatNumber(report.conditions[name].conversations?.perplexity ?? null, 2));
    return row;
  });
  return [header, ...rows];
}

function conditionCells(name: ConditionName, condition: ConditionReport): string[] {
  return [
    CONDITION_TITLES[name],
    formatShare(condition.accuracy),
    formatNumber(condition.perplexity, 2),
    formatBytes(condition.kvBytes),
    formatNumber(condition.promptTokens, 1),
    formatNumber(condition.timeToFirstTokenMs, 1, ' ms'),
    formatNumber(condition.decodeTokensPerSecond, 1, ' tokens/s'),
  ];
}

function notesOf(report: EvaluationReport): string[] {
  const { cartridge, corpus, questions, compression, seconds } = report;
  const notes = [
    `${questions} questions. The cartridge has ${cartridge.tokens} tokens, the text ${corpus.tokens}.`,
    `The cartridge's KV cache is ${compression.toFixed(1)} times smaller than that of the full text. Took ${seconds.total.toFixed(1)} s.`,
  ];
  if (report.conversations !== undefined) notes.push(`${report.conversations} held-out conversations.`);
  for (const name of CONDITIONS) {
    const { cut, withoutText, failed } = report.conditions[name];
    if (cut) notes.push(`${CONDITION_TITLES[name]}: it does not fit the model's context, so only its end was shown.`);
    if (withoutText) notes.push(`${CONDITION_TITLES[name]}: the cartridge is no larger than the framing, so no text was shown.`);
    if (failed)
      notes.push(
        `${CONDITION_TITLES[name]}: ${failed} failed; without an answer they count as wrong, without a loss they are left out.`,
      );
  }
  return notes;
}

/** The first column to the left, the others to the right, two spaces between. */
function alignColumns(rows: readonly string[][]): string[] {
  const widths = (rows[0] as string[]).map((_cell, column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number)))
      .join('  '),
  );
}

function formatShare(value: number | null | undefined): string {
  return value == null ? '-' : `${(100 * value).toFixed(1)} %`;
}

function formatNumber(value: number | null, digits: number, unit = ''): string {
  return value === null ? '-' : `${value.toFixed(digits)}${unit}`;
}

function answerColumns(answers: readonly ReportedAnswer[]): ColumnSource[] {
  const column = (name: string, type: ColumnSource['type'], value: (answer: ReportedAnswer) => unknown): ColumnSource => ({
    name,
    type,
    data: answers.map((answer) => value(answer) ?? null),
  });
  return [
    column('condition', 'STRING', ({ condition }) => condition),
    column('set', 'STRING', ({ set }) => set),
    column('id', 'STRING', ({ question }) => question.id),
    column('kind', 'STRING', ({ question }) => question.kind),
    column('question', 'STRING', ({ question }) => question.question),
    column('answer', 'STRING', ({ question }) => question.answer),
    column('reply', 'STRING', ({ reply }) => reply),
    column('correct', 'BOOLEAN', ({ correct }) => correct),
    column('exact', 'BOOLEAN', ({ exact }) => exact),
    column('abstained', 'BOOLEAN', ({ abstained }) => abstained),
    column('prompt_tokens', 'INT32', ({ promptTokens }) => promptTokens),
    column('time_to_first_token_ms', 'DOUBLE', ({ timeToFirstTokenMs }) => timeToFirstTokenMs),
    column('decode_tokens_per_second', 'DOUBLE', ({ decodeTokensPerSecond }) => decodeTokensPerSecond),
    column('error', 'STRING', ({ error }) => error),
    column('extra', 'JSON', ({ question }) => question.extra),
  ];
}
