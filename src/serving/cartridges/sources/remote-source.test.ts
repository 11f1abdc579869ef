import { expect, it } from 'vitest';
import { hostRule } from './remote-source.js';

it('lets downloads come from the source itself and, over https, from the domains named', () => {
  const mayVisit = hostRule('http://hub.local:8080/base', ['huggingface.co', 'hf.co']);
  const allowed = ['http://hub.local:8080/x', 'https://huggingface.co/x', 'https://cdn-lfs.hf.co/x'];
  const refused = [
    'http://hub.local/x',
    'http://huggingface.co/x',
    'https://huggingface.co:8443/x',
    'https://evilhf.co/x',
    'https://hf.co.evil.example/x',
    'https://169.254.169.254/latest',
    'ftp://hf.co/x',
  ];
  expect(allowed.filter((url) => !mayVisit(new URL(url)))).toEqual([]);
  expect(refused.filter((url) => mayVisit(new URL(url)))).toEqual([]);
  expect(() => hostRule('file:///etc', [])).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
});
