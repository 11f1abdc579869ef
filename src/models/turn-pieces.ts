import { CartridgesError } from '../core/errors.js';
import type { Role } from '../core/message.js';
import type { ChatPart, ChatTemplate, TemplateMessage } from './chat-template.js';

/** What a template writes before and after the content of a turn. */
export interface Turn {
  header: string;
  tail: string;
}

/** Who can take a turn; a system message is no turn. */
export type TurnRole = Exclude<Role, 'system'>;

/** White space that a template cuts off a content. */
type Cut = 'nothing' | 'lineBreaks' | 'whiteSpace';

export interface ContentCut {
  start: Cut;
  end: Cut;
}

/**
 * How a template treats a system message: as a turn of its own (`head` includes the begin-of-sequence token), inside a user
 * turn, or not at all.
 */
export type SystemTurn = { kind: 'turn'; head: string; tail: string } | { kind: 'merged' } | { kind: 'absent'; reason: string };

/** The texts from which every chat of a template can be put together. */
export interface TurnPieces {
  /** The begin-of-sequence token where the template starts with it, else empty. */
  bos: string;
  /** What the template slips in between `bos` and the first turn when a chat has no system message. */
  defaultSystem: string;
  system: SystemTurn;
  turns: Record<TurnRole, Turn>;
  /** Header of an assistant message that is the last one; templates of thinking models add an empty thought there. */
  lastAssistantHeader: string;
  generationPrompt: string;
  cut: Record<Role, ContentCut>;
}

/**
 * Finds the pieces by rendering small chats, and checks them: longer chats, with and without a system message, put together
 * from the pieces must equal the template's own rendering. Throws `UNSUPPORTED_MODEL` where they do not.
 */
export function discoverTurnPieces(template: ChatTemplate, bosToken: string): TurnPieces {
  const [beforeUser, userTail] = gaps(template, ['user']) as [string, string];
  const [, toLastAssistant, assistantTail] = gaps(template, ['user', 'assistant']) as [string, string, string];
  const [, toAssistant, toUser] = gaps(template, ['user', 'assistant', 'user']) as [string, string, string];
  const beforeReply = gaps(template, ['user'], true)[1] as string;

  const userHeader = withoutStart(toUser, assistantTail, 'an assistant turn ends differently when it is the last');
  const lead = withoutEnd(beforeUser, userHeader, 'the first user turn starts differently from later ones');
  // Some ChatML models (SmolLM2) name the mark that opens every turn as their begin token: that is none.
  const opensEveryTurn = userHeader.startsWith(bosToken);
  const bos = lead.startsWith(bosToken) && !opensEveryTurn ? bosToken : '';
  const system = discoverSystem(template, userHeader);
  const userTailVaries = 'a user turn ends differently when it is the last';
  const pieces: TurnPieces = {
    bos,
    defaultSystem: lead.slice(bos.length),
    system,
    turns: {
      user: { header: userHeader, tail: userTail },
      assistant: { header: withoutStart(toAssistant, userTail, userTailVaries), tail: assistantTail },
    },
    lastAssistantHeader: withoutStart(toLastAssistant, userTail, userTailVaries),
    generationPrompt: withoutStart(beforeReply, userTail, 'the generation prompt changes the text before it'),
    cut: discoverCuts(template, system),
  };
  checkRoundTrip(template, pieces);
  return pieces;
}

/** The parts of a chat without system text, put together from the pieces; `roles` are those of its messages. */
export function turnParts(pieces: TurnPieces, roles: readonly TurnRole[], addGenerationPrompt: boolean): ChatPart[] {
  const parts: ChatPart[] = [];
  roles.forEach((role, message) => {
    const { header, tail } = pieces.turns[role];
    const isLastAssistant = role === 'assistant' && message === roles.length - 1;
    parts.push({ text: isLastAssistant ? pieces.lastAssistantHeader : header }, { message }, { text: tail });
  });
  if (addGenerationPrompt) parts.push({ text: pieces.generationPrompt });
  return parts;
}

/** `content` as the template would place it. */
export function cutContent(content: string, cut: ContentCut): string {
  let start = cut.start === 'whiteSpace' ? content.length - content.trimStart().length : 0;
  let end = cut.end === 'whiteSpace' ? content.trimEnd().length : content.length;
  if (cut.start === 'lineBreaks') while (content[start] === '\n') start++;
  if (cut.end === 'lineBreaks') while (end > start && content[end - 1] === '\n') end--;
  return content.slice(start, end);
}

function discoverSystem(template: ChatTemplate, userHeader: string): SystemTurn {
  let parts: ChatPart[];
  try {
    parts = template.render(toMessages(['system', 'user']));
  } catch (error) {
    if (isLimit(error)) throw error;
    return { kind: 'absent', reason: (error as Error).message };
  }
  if (!parts.some((part) => 'message' in part && part.message === 0)) {
    return { kind: 'absent', reason: 'its template leaves the system message out' };
  }
  const texts = textsAround(parts, 2);
  if (!texts?.[1]?.endsWith(userHeader)) return { kind: 'merged' };
  return { kind: 'turn', head: texts[0] as string, tail: texts[1].slice(0, texts[1].length - userHeader.length) };
}

function discoverCuts(template: ChatTemplate, system: SystemTurn): Record<Role, ContentCut> {
  return {
    system: system.kind === 'absent' ? { start: 'nothing', end: 'nothing' } : discoverCut(template, ['system', 'user'], 0),
    user: discoverCut(template, ['user', 'assistant', 'user'], 0),
    assistant: discoverCut(template, ['user', 'assistant', 'user'], 1),
  };
}

/** Renders with white space around one content and sees whether it survives. */
function discoverCut(template: ChatTemplate, roles: readonly Role[], index: number): ContentCut {
  const plain = JSON.stringify(template.render(toMessages(roles)));
  const cuts = (padding: Partial<TemplateMessage>) => {
    const padded = toMessages(roles).map((message, at) => (at === index ? { ...message, ...padding } : message));
    return JSON.stringify(template.render(padded)) === plain;
  };
  const strongest = (side: 'leading' | 'trailing'): Cut =>
    cuts({ [side]: ' ' }) ? 'whiteSpace' : cuts({ [side]: '\n' }) ? 'lineBreaks' : 'nothing';
  return { start: strongest('leading'), end: strongest('trailing') };
}

function checkRoundTrip(template: ChatTemplate, pieces: TurnPieces): void {
  const turns: TurnRole[] = ['user', 'assistant', 'user', 'assistant', 'user'];
  for (const roles of [turns, turns.slice(0, 4)]) {
    const addGenerationPrompt = roles.at(-1) === 'user';
    const own = textsAround(turnParts(pieces, roles, addGenerationPrompt), roles.length) as string[];
    const rest = own.slice(1);
    compare([`${pieces.bos}${pieces.defaultSystem}${own[0]}`, ...rest], gaps(template, roles, addGenerationPrompt));
    if (pieces.system.kind !== 'turn') continue;
    const withSystem = [pieces.system.head, `${pieces.system.tail}${own[0]}`, ...rest];
    compare(withSystem, gaps(template, ['system', ...roles], addGenerationPrompt));
  }
}

function compare(assembled: readonly string[], rendered: readonly string[]): void {
  const at = assembled.findIndex((text, index) => text !== rendered[index]);
  if (at < 0) return;
  throw unsupported(
    `a chat put together from its turns differs from the template: ${JSON.stringify(assembled[at])} instead of ${JSON.stringify(rendered[at])}`,
  );
}

/** The template's texts before, between and after the contents: one more than there are roles. */
function gaps(template: ChatTemplate, roles: readonly Role[], addGenerationPrompt = false): string[] {
  let parts: ChatPart[];
  try {
    parts = template.render(toMessages(roles), addGenerationPrompt);
  } catch (error) {
    if (isLimit(error)) throw error;
    throw unsupported((error as Error).message, error);
  }
  const texts = textsAround(parts, roles.length);
  if (!texts) throw unsupported(`it leaves out, repeats or reorders messages of a chat of ${roles.join(', ')}`);
  return texts;
}

/** The template took too long, whatever the chat: it did not refuse it. */
function isLimit(error: unknown): boolean {
  return CartridgesError.is(error) && error.code === 'UNSUPPORTED_MODEL';
}

/** Undefined unless every one of `count` contents occurs once and in order. */
function textsAround(parts: readonly ChatPart[], count: number): string[] | undefined {
  const texts = [''];
  for (const part of parts) {
    if ('text' in part) texts.push(`${texts.pop()}${part.text}`);
    else if (part.message === texts.length - 1) texts.push('');
    else return undefined;
  }
  return texts.length === count + 1 ? texts : undefined;
}

function toMessages(roles: readonly Role[]): TemplateMessage[] {
  return roles.map((role) => ({ role }));
}

function withoutStart(text: string, start: string, otherwise: string): string {
  if (!text.startsWith(start)) throw unsupported(otherwise);
  return text.slice(start.length);
}

function withoutEnd(text: string, end: string, otherwise: string): string {
  if (!text.endsWith(end)) throw unsupported(otherwise);
  return text.slice(0, text.length - end.length);
}

function unsupported(reason: string, cause?: unknown): CartridgesError {
  return new CartridgesError('UNSUPPORTED_MODEL', `the model's chat template cannot be split into turns: ${reason}`, {
    hint: 'use a model whose template writes one turn after another, such as ChatML, llama-3 or qwen',
    cause,
  });
}
