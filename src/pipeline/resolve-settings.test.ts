import { describe, expect, it } from 'vitest';
import { assignmentsOf, describeSettings, resolveAssignments, resolveSettings } from './resolve-settings.js';

const text = (path: string, value: string, origin = '--set') => ({ path, value, origin, isText: true });

describe('resolveAssignments', () => {
  it('fills in defaults and leaves open what corpus and model decide', () => {
    const settings = resolveAssignments([]);
    expect(settings).toMatchObject({
      device: 'auto',
      cartridgeType: 'f16',
      synthesis: { concurrency: 32 },
      training: { frozenTokens: 1 },
    });
    expect(settings.training.tokens).toBeUndefined();
    expect(settings.model).toBeUndefined();
  });

  it('lets later assignments win, setting by setting', () => {
    const settings = resolveAssignments([
      ...assignmentsOf({ seed: 1, training: { tokens: 64, decay: 'none' } }, 'file'),
      text('training.tokens', '128', '--tokens'),
      text('seed', '9', '--seed'),
    ]);
    expect(settings.training).toMatchObject({ tokens: 128, decay: 'none' });
    expect(settings.seed).toBe(9);
  });

  it('reads text in the type of its setting', () => {
    const settings = resolveAssignments([
      text('training.learningRate', '2e-3'),
      text('synthesis.keepDuplicates', 'true'),
      text('model', '12'),
    ]);
    expect(settings.training.learningRate).toBe(0.002);
    expect(settings.synthesis.keepDuplicates).toBe(true);
    expect(settings.model).toBe('12');
  });

  it.each([
    ['training.tokns', 'did you mean training.tokens?'],
    ['tokens', 'did you mean training.tokens?'],
    ['synthesis.tokens', 'did you mean training.tokens?'],
    ['sead', 'did you mean seed?'],
    ['learningrate', 'did you mean training.learningRate?'],
    ['evaluation', 'set one of: evaluation.maxTokens'],
    ['wholly.different', 'cartridges settings lists'],
    ['constructor', 'cartridges settings lists'],
  ])('refuses %s with a suggestion', (path, hint) => {
    const expected = { code: 'UNKNOWN_OPTION', message: expect.stringContaining(`--set: there is no setting ${path}`) };
    expect(() => resolveAssignments([text(path, '1')])).toThrow(
      expect.objectContaining({ ...expected, hint: expect.stringContaining(hint) }),
    );
  });

  it.each([
    ['training.tokens', 'many'],
    ['training.tokens', ''],
    ['training.tokens', '1.5'],
    ['training.tokens', '0'],
    ['training.loss', 'mean'],
    ['synthesis.keepDuplicates', '1'],
    ['synthesis.minProbabilityMass', '1.01'],
    ['minutes', 'Infinity'],
  ])('refuses %s = %j and says where it was said', (path, value) => {
    const expected = {
      code: 'INVALID_OPTION',
      message: expect.stringContaining(`--flag: ${path} cannot be ${JSON.stringify(value)}`),
    };
    expect(() => resolveAssignments([text(path, value, '--flag')])).toThrow(expect.objectContaining(expected));
  });

  it('refuses settings that do not go together', () => {
    const refuse = (input: object, message: RegExp) =>
      expect(() => resolveAssignments(assignmentsOf(input, 'file'))).toThrow(message);
    refuse({ training: { initializer: 'cartridge' } }, /initializerCartridge/);
    refuse({ training: { tokens: 4, frozenTokens: 4 } }, /larger than training.frozenTokens/);
    refuse({ synthesis: { chunkMinTokens: 9, chunkMaxTokens: 8 } }, /larger than synthesis.chunkMaxTokens/);
  });
});

describe('resolveSettings', () => {
  it('refuses unknown keys, null and other shapes in an object', () => {
    expect(() => resolveSettings({ training: { tokns: 1 } } as object)).toThrow(/no setting training.tokns/);
    expect(() => resolveSettings({ seed: null } as unknown as object)).toThrow(/seed cannot be null/);
    expect(() => resolveSettings({ training: 5 } as unknown as object)).toThrow(/expected an object/);
    expect(() => resolveSettings({ 'training.tokens': { deep: 1 } } as object)).toThrow(/cannot be/);
  });
});

describe('describeSettings', () => {
  it('has a sentence and the default for every setting', () => {
    const settings = describeSettings();
    expect(settings.filter(({ description }) => description === '')).toEqual([]);
    expect(settings.find(({ path }) => path === 'synthesis.concurrency')?.default).toBe(32);
  });
});
