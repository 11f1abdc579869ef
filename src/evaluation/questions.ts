import { createReadStream } from 'node:fs';
import { z } from 'zod';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import { normalise } from './normalise.js';

/** Largest question file that is read; a benchmark of 10,000 questions has a few megabytes. */
const MAX_FILE_BYTES = 64 << 20;
const MAX_QUESTIONS = 100_000;
const MAX_TEXT_CHARACTERS = 100_000;
/** As many as there are letters to name them. */
const MAX_CHOICES = 26;
const MAX_ACCEPTED = 1_000;

/** One question of an evaluation. */
export interface Question {
  id: string;
  question: string;
  /** Null where there is no right answer: the model should say that it does not know. */
  answer: string | null;
  /** Further right answers. */
  accept: string[];
  /** A right answer as a full sentence: its loss is measured; without one, the loss of `answer`. */
  reference?: string;
  /** Accuracies are also given per kind. */
  kind?: string;
  /** The answers to choose from, the right one among them. */
  choices?: string[];
  /** Fields of the line that have no meaning here. */
  extra: Record<string, unknown>;
}

const text = z.string().max(MAX_TEXT_CHARACTERS);
const filledText = text.refine((value) => value.trim() !== '', 'is empty');

const lineSchema = z.looseObject({
  id: z
    .union([filledText, z.number()])
    .nullish()
    .transform((id) => (id == null ? undefined : String(id))),
  question: filledText,
  answer: text.nullish().transform((answer) => answer ?? null),
  accept: z.array(filledText).max(MAX_ACCEPTED).nullish(),
  reference: filledText.nullish(),
  kind: filledText.nullish(),
  choices: z.array(filledText).min(2).max(MAX_CHOICES).nullish(),
});

export interface ReadQuestionsOptions {
  /** Lines may lack an answer: the text does not hold one. */
  unanswerable?: boolean;
}

/**
 * Reads a JSONL file: a JSON object with at least `question` and `answer` a line, empty lines skipped. A line without an `id` is
 * named after its number. Throws `INVALID_INPUT` with the line's number, `FILE_NOT_FOUND`.
 */
export async function readQuestions(path: string, options: ReadQuestionsOptions = {}): Promise<Question[]> {
  const lines = (await readText(path)).split('\n');
  const filled = lines.flatMap((line, index) => (line.trim() === '' ? [] : [{ line, number: index + 1 }]));
  if (filled.length === 0) throw invalid(path, undefined, 'holds no question');
  if (filled.length > MAX_QUESTIONS) throw invalid(path, undefined, `holds more than ${MAX_QUESTIONS} questions`);
  const lineOfId = new Map<string, number>();
  return filled.map(({ line, number }) => {
    const question = parseLine(line, number, path, options);
    const other = lineOfId.get(question.id);
    if (other !== undefined)
      throw invalid(path, number, `the id ${JSON.stringify(question.id)} is already that of line ${other}`);
    lineOfId.set(question.id, number);
    return question;
  });
}

/** What a model is asked: the question, below it the choices by letter. */
export function questionPrompt({ question, choices }: Pick<Question, 'question' | 'choices'>): string {
  if (!choices) return question;
  return [question, ...choices.map((choice, index) => `${choiceLetter(index)}. ${choice}`)].join('\n');
}

/** A for the first choice. */
export function choiceLetter(index: number): string {
  return String.fromCharCode(65 + index);
}

async function readText(path: string): Promise<string> {
  const pieces: Buffer[] = [];
  try {
    // One byte more than allowed tells a file that is too large, pipes included, without reading it all.
    for await (const piece of createReadStream(path, { end: MAX_FILE_BYTES })) pieces.push(piece);
  } catch (error) {
    throw toCartridgesError(error);
  }
  const bytes = Buffer.concat(pieces);
  if (bytes.length > MAX_FILE_BYTES) throw invalid(path, undefined, `is larger than ${MAX_FILE_BYTES >> 20} MiB`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw invalid(path, undefined, 'is not UTF-8 text', error);
  }
}

function parseLine(line: string, number: number, path: string, { unanswerable = false }: ReadQuestionsOptions): Question {
  const parsed = lineSchema.safeParse(parseJson(line, number, path));
  if (!parsed.success) throw invalid(path, number, firstIssue(parsed.error));
  const { id = `line-${number}`, question, answer, accept, reference, kind, choices, ...extra } = parsed.data;
  const problem = problemWithAnswer(answer, accept ?? [], choices ?? undefined, unanswerable);
  if (problem) throw invalid(path, number, problem);
  return {
    id,
    question,
    answer,
    accept: accept ?? [],
    ...(reference != null && { reference }),
    ...(kind != null && { kind }),
    ...(choices != null && { choices }),
    extra,
  };
}

function problemWithAnswer(
  answer: string | null,
  accept: readonly string[],
  choices: readonly string[] | undefined,
  unanswerable: boolean,
): string | undefined {
  if (answer === null) return unanswerable ? undefined : 'answer is missing: only unanswerable questions may lack one';
  if (answer.trim() === '') return 'answer is empty';
  const right = [answer, ...accept].map(normalise);
  if (choices && !choices.some((choice) => right.includes(normalise(choice)))) return 'answer is none of the choices';
  return undefined;
}

function parseJson(line: string, number: number, path: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw invalid(path, number, 'is not JSON', error);
  }
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0] as z.core.$ZodIssue;
  return `${issue.path.join('.') || 'the line'}: ${issue.message}`;
}

function invalid(path: string, line: number | undefined, problem: string, cause?: unknown): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `question file ${path}${line === undefined ? '' : `, line ${line}`}: ${problem}`, {
    hint: 'each line must be a JSON object such as {"id": "q-1", "question": "…", "answer": "…"}',
    cause,
  });
}
