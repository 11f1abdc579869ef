import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { CartridgesError, toCartridgesError } from '../core/errors.js';

/** What role A is asked to come up with. */
export const SEED_KINDS = ['question', 'use_case', 'summarization', 'structuring', 'creative'] as const;
export type SeedKind = (typeof SEED_KINDS)[number];

/** The wordings of a self-study: how role A is asked for a message, and how both roles are shown the text. */
export interface PromptSet {
  /** What role A gets as user turn. */
  seedPrompts: Record<SeedKind, string[]>;
  /** How often each kind is drawn, relative to the others; 0 is never. */
  seedWeights: Record<SeedKind, number>;
  /** System messages; `{text}` stands for the chunk. */
  systemTemplates: string[];
  /** Answers by which the model says that the answer is not known, where its `prompts.json` names them. */
  refusals?: string[];
}

/** Wordings that fit any text and any instruction model. */
export const BUILT_IN_PROMPTS: PromptSet = {
  seedPrompts: {
    question: [
      'Write one question that can be answered from the text above. Name the people, things, dates or places it is about, so that it makes sense to someone who does not see the text. Reply with the question only.',
      'Pick one detail of the text and ask about it. The question must say clearly what it is about. Output the question and nothing else.',
      'Act as an examiner. Ask one question that checks whether a person knows this text by heart, without pointing to "the text". Output only the question.',
      'Ask one question that needs two facts of the text together. Mention names, never "it" or "they". Output only the question.',
    ],
    use_case: [
      'Imagine a person who works with the information above. Think of a task they have, and write the message they would send to an assistant that knows the text. Output only the message.',
      'Think of a decision that this text helps to make. Write one question that someone asks before they decide. Output only the question.',
      'Write one request that comes up when the knowledge in the text is used in practice. Say which part it is about. Output only the request.',
    ],
    summarization: [
      'Write one message that asks for a summary of a certain part of the text. Name the part by what it is about. Output only the message.',
      'Ask for the main points about one person, thing or topic of the text, by name. Output only the request.',
      'Write a request for an overview of one section of the text, in few sentences. Say which section. Output only the request.',
    ],
    structuring: [
      'Write one message that asks for facts of the text as JSON. Say which facts, by name. Output only the message.',
      'Ask for one part of the text as a table or a list, with exact names, numbers and dates. Say which part. Output only the request.',
      'Write a request to put one topic of the text into YAML, XML or CSV. Say which topic and which format. Output only the request.',
    ],
    creative: [
      'Write one message that asks for something creative, for example a story, a poem or a dialogue, built on facts of the text. Name the facts. Output only the message.',
      'Think of an unusual but sensible thing to ask about one subject of the text, and ask it. Output only the question.',
      'Write the opening message of a lively conversation about something in the text. Output only the message.',
    ],
  },
  seedWeights: { question: 1, use_case: 1, summarization: 1, structuring: 1, creative: 1 },
  systemTemplates: [
    'Below is a part of a longer text. Use it for everything that you are asked.\n\n<text>\n{text}\n</text>',
    'You know the following text well. Rely on it, and give names, numbers and dates exactly.\n\n<text>\n{text}\n</text>',
    'Text:\n\n{text}\n\nThe conversation is about this text.',
  ],
};

/** Largest `prompts.json` that is read. */
const MAXIMUM_PROMPTS_BYTES = 1 << 20;

const text = z.string().min(1);
const promptsFileSchema = z.object({
  seed_prompts: z.record(z.enum(SEED_KINDS), z.array(text).min(1)),
  seed_weights: z
    .record(z.enum(SEED_KINDS), z.number().min(0))
    .refine((weights) => Object.values(weights).some((weight) => weight > 0), 'one weight must be above 0'),
  system_templates: z.array(text.includes('{text}')).min(1),
  unknown_answer: text,
  no_text_answer: text,
});

/**
 * The wordings that a model comes with: `prompts.json` in its folder, or the built-in ones where it has none.
 * Throws `INVALID_INPUT` when the file is there and does not have the form.
 */
export async function loadPromptSet(modelPath: string): Promise<PromptSet> {
  const path = join(dirname(modelPath), 'prompts.json');
  const json = await readFileIfPresent(path);
  return json === undefined ? BUILT_IN_PROMPTS : parsePromptSet(json, path);
}

/** Puts the text in the place of `{text}`, exactly as it is. */
export function fillTemplate(template: string, text: string): string {
  return template.split('{text}').join(text);
}

function parsePromptSet(json: string, path: string): PromptSet {
  try {
    const file = promptsFileSchema.parse(JSON.parse(json));
    return {
      seedPrompts: file.seed_prompts,
      seedWeights: file.seed_weights,
      systemTemplates: file.system_templates,
      refusals: [file.unknown_answer, file.no_text_answer],
    };
  } catch (error) {
    const issue = error instanceof z.ZodError ? error.issues[0] : undefined;
    const what = issue ? `${issue.path.join('.')}: ${issue.message}` : (error as Error).message;
    throw new CartridgesError('INVALID_INPUT', `${path} is not a prompt file: ${what}`, {
      hint: 'correct the file, or remove it to use the built-in prompts',
      cause: error,
    });
  }
}

async function readFileIfPresent(path: string): Promise<string | undefined> {
  try {
    const bytes = await readFile(path);
    if (bytes.length <= MAXIMUM_PROMPTS_BYTES) return bytes.toString('utf8');
  } catch (thrown) {
    const error = toCartridgesError(thrown);
    if (error.code === 'FILE_NOT_FOUND') return undefined;
    throw error;
  }
  throw new CartridgesError('INVALID_INPUT', `${path} is larger than ${MAXIMUM_PROMPTS_BYTES} bytes`);
}
