import type { ChatClient, ChatRequest, ChatResponse } from '../chat/chat-client.js';
import { CartridgesError, throwIfAborted, toCartridgesError } from '../core/errors.js';
import { leastBestProbability } from '../core/sparse-logprobs.js';
import type { Conversation } from './conversation.js';
import { type PlannedConversation, systemPrompt } from './plan.js';
import type { SynthesisSettings } from './synthesis-settings.js';
import type { TextOwners } from './text-owners.js';

/** Why a conversation is not worth keeping. */
type Flaw = 'empty' | 'truncated' | 'duplicate' | 'unsure' | 'repeated';

/** What became of a planned conversation. It is kept when `conversation` is there, whatever flaw it has. */
export interface Outcome {
  planned: PlannedConversation;
  question?: string;
  flaw?: Flaw;
  conversation?: Conversation;
  error?: CartridgesError;
}

/** How often a failed conversation is tried again. */
const RETRIES = 2;

interface GroupContext {
  client: ChatClient;
  settings: SynthesisSettings;
  questions: TextOwners;
  /** Of the kept conversations. */
  answers: TextOwners;
  signal?: AbortSignal;
}

/**
 * Runs a closed group of conversations: all questions in one tick, then all answers in one tick, then what failed, one
 * conversation at a time. Nothing depends on the order in which requests finish. The error of a request stays in its
 * outcome; only `CANCELLED` is thrown.
 */
export async function runGroup(group: readonly PlannedConversation[], context: GroupContext): Promise<Outcome[]> {
  const outcomes = await attempt(group, context);
  for (let i = 0; i < outcomes.length; i++) {
    for (let retry = 0; retry < RETRIES && outcomes[i].error; retry++) {
      release(outcomes[i], context.questions);
      [outcomes[i]] = await attempt([outcomes[i].planned], context);
    }
  }
  for (const outcome of outcomes) findRepetition(outcome, context);
  settleQuestions(outcomes, context.questions);
  return outcomes;
}

/** Whether an earlier question about the chunk already had the answer. It counts as that where nothing else is wrong with it. */
function findRepetition(outcome: Outcome, { answers, settings }: GroupContext): void {
  const { planned, conversation, flaw } = outcome;
  if (!conversation) return;
  const isNew = answers.claim(planned.chunk.id, conversation.messages[1].content, planned.index);
  // A duplicate question has its answer again, and is kept or left out as such.
  if (isNew || flaw === 'duplicate') return;
  outcome.flaw ??= 'repeated';
  if (!settings.keepRepeated) outcome.conversation = undefined;
}

/** Leaves in the log what the kept conversations asked and nothing else: a resumed run knows no more than that. */
function settleQuestions(outcomes: readonly Outcome[], questions: TextOwners): void {
  const kept = outcomes.filter(({ conversation }) => conversation);
  for (const outcome of outcomes) release(outcome, questions);
  for (const { planned, question } of kept) questions.claim(planned.chunk.id, question as string, planned.index);
}

/** Gives back what an attempt asked: the next one may ask another question, as its batch is another. */
function release({ planned, question }: Outcome, questions: TextOwners): void {
  if (question !== undefined) questions.release(planned.chunk.id, question, planned.index);
}

/** Both roles read the same chunk: what role A has read, role B need not read again. */
function attempt(group: readonly PlannedConversation[], context: GroupContext): Promise<Outcome[]> {
  const run = () => askAndAnswer(group, context);
  return context.client.together?.(run) ?? run();
}

async function askAndAnswer(group: readonly PlannedConversation[], context: GroupContext): Promise<Outcome[]> {
  const questions = await chatAll(
    group.map((planned) => questionRequest(planned, context.settings)),
    context,
  );
  const outcomes = group.map((planned, i) => toQuestion(planned, questions[i], context));
  const answerable = outcomes.filter(({ error, flaw }) => !error && isWanted(flaw, context.settings));
  const answers = await chatAll(
    answerable.map((outcome) => answerRequest(outcome, context.settings)),
    context,
  );
  answerable.forEach((outcome, i) => {
    addAnswer(outcome, answers[i], context.settings);
  });
  return outcomes;
}

async function chatAll(requests: ChatRequest[], { client, signal }: GroupContext): Promise<PromiseSettledResult<ChatResponse>[]> {
  throwIfAborted(signal);
  const results = await Promise.allSettled(requests.map((request) => client.chat(request, signal)));
  throwIfAborted(signal);
  return results;
}

function questionRequest(planned: PlannedConversation, settings: SynthesisSettings): ChatRequest {
  return {
    messages: [
      { role: 'system', content: systemPrompt(planned) },
      { role: 'user', content: planned.seedPrompt },
    ],
    maxTokens: settings.maxTokensA,
    endRepetition: settings.endRepetition,
    sampling: { temperature: settings.temperatureA, seed: planned.samplingSeed },
  };
}

/** Role B never sees the seed prompt. */
function answerRequest({ planned, question }: Outcome, settings: SynthesisSettings): ChatRequest {
  const { maxTokensB, endRepetition, topLogprobs, minProbabilityMass } = settings;
  return {
    messages: [
      { role: 'system', content: systemPrompt(planned) },
      { role: 'user', content: question as string },
    ],
    maxTokens: maxTokensB,
    endRepetition,
    sampling: { temperature: 0 },
    ...(topLogprobs > 0 && { topLogprobs, minProbabilityMass }),
  };
}

function toQuestion(planned: PlannedConversation, result: PromiseSettledResult<ChatResponse>, context: GroupContext): Outcome {
  if (result.status === 'rejected') return { planned, error: toCartridgesError(result.reason) };
  const question = result.value.text.trim();
  const isNew = context.questions.claim(planned.chunk.id, question, planned.index);
  const flaw = findFlaw(question, result.value) ?? (isNew ? undefined : 'duplicate');
  return { planned, question, flaw };
}

function addAnswer(outcome: Outcome, result: PromiseSettledResult<ChatResponse>, settings: SynthesisSettings): void {
  if (result.status === 'rejected') {
    outcome.error = toCartridgesError(result.reason);
    return;
  }
  outcome.error = findMissingLogprobs(result.value, settings);
  outcome.flaw ??= findFlaw(result.value.text, result.value) ?? (isUnsure(result.value, settings) ? 'unsure' : undefined);
  if (!outcome.error && isWanted(outcome.flaw, settings)) outcome.conversation = toConversation(outcome, result.value);
}

function findFlaw(text: string, { finishReason }: ChatResponse): Flaw | undefined {
  if (text.trim() === '') return 'empty';
  return finishReason === 'length' ? 'truncated' : undefined;
}

/** Greedy, the answer consists of the most probable tokens. */
function isUnsure({ topLogprobs }: ChatResponse, { minTokenProbability }: SynthesisSettings): boolean {
  return topLogprobs !== undefined && leastBestProbability(topLogprobs) < minTokenProbability;
}

function isWanted(flaw: Flaw | undefined, settings: SynthesisSettings): boolean {
  if (flaw === 'empty') return settings.keepEmpty;
  if (flaw === 'truncated') return settings.keepTruncated;
  if (flaw === 'unsure') return false;
  return flaw === undefined || settings.duplicates === 'keep';
}

function findMissingLogprobs({ tokenIds, topLogprobs }: ChatResponse, settings: SynthesisSettings): CartridgesError | undefined {
  if (settings.topLogprobs === 0 || (tokenIds && topLogprobs && tokenIds.length === topLogprobs.rows)) return undefined;
  const got = topLogprobs ? `${topLogprobs.rows} rows for ${tokenIds?.length ?? 0} tokens` : 'none';
  return new CartridgesError('INVALID_INPUT', `log-probs of every answered token were asked for and the answer has ${got}`, {
    hint: 'use a server that returns token ids and top log-probs',
  });
}

/** The question has no token ids: role B read its text, and so will the student. */
function toConversation({ planned, question }: Outcome, answer: ChatResponse): Conversation {
  const { text, tokenIds, topLogprobs } = answer;
  return {
    id: String(planned.index).padStart(6, '0'),
    messages: [
      { role: 'user', content: question as string },
      { role: 'assistant', content: text, ...(tokenIds && { tokenIds }), ...(topLogprobs && { topLogprobs }) },
    ],
    systemPrompt: systemPrompt(planned),
    type: planned.kind,
    metadata: { seedPrompt: planned.seedPrompt, chunkId: planned.chunk.id, chunkHash: planned.chunk.contentHash },
  };
}
