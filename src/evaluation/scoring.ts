import { containsAtWordBorders, normalise } from './normalise.js';
import { choiceLetter, type Question } from './questions.js';

/** Sentences by which a model says that it does not know, where the model's own `prompts.json` names none. */
export const BUILT_IN_REFUSALS: readonly string[] = [
  'I do not know',
  "I don't know",
  'I don’t know',
  'I cannot answer',
  "I can't answer",
  'I can’t answer',
  'I am not sure',
  "I'm not sure",
  'I’m not sure',
  'does not say',
  "doesn't say",
  'doesn’t say',
  'does not mention',
  "doesn't mention",
  'doesn’t mention',
  'does not specify',
  'does not provide',
  'does not contain',
  'is not mentioned',
  'not mentioned in the text',
  'is not stated',
  'is not specified',
  'is not given',
  'not provided in the text',
  'no information',
  'not enough information',
];

/**
 * Whether `reply` answers the question: it contains the answer, or one of `accept`, at word borders. With `choices` it must
 * name the right choice, by its text or by its letter, and no other one. False for a question without an answer.
 */
export function isCorrect(reply: string, question: Question): boolean {
  const right = rightAnswers(question);
  if (!question.choices) return right.some((answer) => saysAnswer(reply, answer));
  const chosen = chosenOf(reply, question.choices);
  return chosen !== undefined && right.map(normalise).includes(normalise(chosen));
}

/** Whether the reply is the answer, or one of `accept`, and nothing else. */
export function isExact(reply: string, question: Question): boolean {
  return rightAnswers(question).some((answer) => {
    const normalised = normalise(answer);
    return normalised === '' ? reply.trim() === answer.trim() : normalise(reply) === normalised;
  });
}

/** Whether the reply contains a refusal at word borders. */
export function isAbstention(reply: string, refusals: readonly string[]): boolean {
  const normalised = normalise(reply);
  return refusals.some((refusal) => containsAtWordBorders(normalised, normalise(refusal)));
}

function rightAnswers({ answer, accept }: Question): string[] {
  return answer === null ? accept : [answer, ...accept];
}

/** An answer of nothing but punctuation, such as ";", has no normal form: it must stand alone between white space. */
function saysAnswer(reply: string, answer: string): boolean {
  const normalised = normalise(answer);
  if (normalised === '') return reply.split(/\s+/).includes(answer.trim());
  return containsAtWordBorders(normalise(reply), normalised);
}

function chosenOf(reply: string, choices: readonly string[]): string | undefined {
  const letter = /^\s*\(?([A-Za-z])(?:[).:]|\s*$)/.exec(reply)?.[1]?.toUpperCase();
  const byLetter = letter && choices.find((_choice, index) => choiceLetter(index) === letter);
  if (byLetter) return byLetter;
  const normalised = normalise(reply);
  const named = choices.filter((choice) => containsAtWordBorders(normalised, normalise(choice)));
  // "dark red" also names "red": a choice inside another named one is not meant.
  const meant = named.filter((choice) => !named.some((other) => isProperPart(normalise(choice), normalise(other))));
  return meant.length === 1 ? meant[0] : undefined;
}

function isProperPart(part: string, whole: string): boolean {
  return part !== whole && containsAtWordBorders(whole, part);
}
