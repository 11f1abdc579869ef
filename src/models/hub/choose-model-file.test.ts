import { describe, expect, it } from 'vitest';
import { chooseModelFile } from './choose-model-file.js';

const files = ['README.md', 'm-f16.gguf', 'm-q4_k_m.gguf', 'm-q8_0.gguf', 'mmproj-m-Q8_0.gguf'];

describe('chooseModelFile', () => {
  it('prefers Q8_0, then Q4_K_M, whatever the case', () => {
    expect(chooseModelFile(files, undefined, 'r')).toBe('m-q8_0.gguf');
    expect(chooseModelFile(['m-f16.gguf', 'm.Q4_K_M.gguf', 'm.Q4_0.gguf'], undefined, 'r')).toBe('m.Q4_K_M.gguf');
    expect(chooseModelFile(['m-IQ4_XS.gguf', 'm-Q4_0_4_4.gguf', 'm-BF16.gguf'], undefined, 'r')).toBe('m-BF16.gguf');
  });

  it('takes the only GGUF that matches, and lists them when several do', () => {
    expect(chooseModelFile(files, 'F16', 'r')).toBe('m-f16.gguf');
    expect(() => chooseModelFile(files, 'm-', 'r')).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('m-q8_0.gguf') }),
    );
    expect(() => chooseModelFile(files, 'Q2_K', 'r')).toThrow(/has no file Q2_K/);
  });

  it('refuses a repository without a GGUF and a model in parts', () => {
    expect(() => chooseModelFile(['README.md'], undefined, 'r')).toThrow(/no GGUF/);
    expect(() => chooseModelFile(['m-Q8_0-00001-of-00002.gguf'], undefined, 'r')).toThrow(/one part/);
  });
});
