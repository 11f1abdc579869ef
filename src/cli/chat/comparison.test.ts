import { describe, expect, it } from 'vitest';
import { CartridgesError } from '../../core/errors.js';
import { comparedContexts, formatComparison } from './comparison.js';

const usage = { promptTokens: 18, completionTokens: 7, cachedPromptTokens: 4, cartridgeTokens: 64 };
const answers = [
  {
    title: 'notes',
    outcome: { text: 'Mara Quill holds the brass key of the lamp room.', usage, timeToFirstTokenMs: 41.2, totalMs: 1500 },
  },
  { title: 'full text', outcome: new CartridgesError('CONTEXT_OVERFLOW', 'too long\u001b[2J') },
  { title: 'nothing', outcome: { text: '\u001b[31mI do\r\nnot know.', usage: undefined, timeToFirstTokenMs: 5, totalMs: 9 } },
];

describe('formatComparison', () => {
  it('puts the answers side by side when there is room', () => {
    expect(formatComparison(answers, 90)).toBe(
      [
        'notes                        │ full text                    │ nothing',
        `${'─'.repeat(28)} │ ${'─'.repeat(28)} │ ${'─'.repeat(28)}`,
        'Mara Quill holds the brass   │ failed: too long�[2J         │ �[31mI do',
        'key of the lamp room.        │                              │ not know.',
        '                             │                              │',
        'read: 64 rows + 18 tokens, 4 │                              │ first token 5 ms, whole',
        'reused                       │                              │ answer 9 ms',
        'first token 41 ms, 7 tokens  │                              │',
        'in 1.5 s                     │                              │',
        '',
      ].join('\n'),
    );
  });

  it.each([undefined, 89])('puts them one below the other in %s columns', (columns) => {
    expect(formatComparison(answers, columns)).toBe(
      [
        '── notes',
        'Mara Quill holds the brass key of the lamp room.',
        'read: 64 rows + 18 tokens, 4 reused',
        'first token 41 ms, 7 tokens in 1.5 s',
        '',
        '── full text',
        'failed: too long�[2J',
        '',
        '── nothing',
        '�[31mI do',
        'not know.',
        'first token 5 ms, whole answer 9 ms',
        '',
      ].join('\n'),
    );
  });
});

describe('comparedContexts', () => {
  it('leaves out what there is not', () => {
    const titles = (...given: Parameters<typeof comparedContexts>) => comparedContexts(...given).map(({ title }) => title);
    expect(titles('notes', 'text')).toEqual(['notes', 'full text', 'nothing']);
    expect(titles(undefined, 'text')).toEqual(['full text', 'nothing']);
    expect(titles('notes', undefined)).toEqual(['notes', 'nothing']);
  });
});
