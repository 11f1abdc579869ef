import { expect, test } from 'vitest';
import { hostName, isLoopback } from './host-names.js';

test.each(['localhost', 'LOCALHOST', 'a.localhost', '127.0.0.1', '127.9.9.9', '::1', '[::1]', '::ffff:127.0.0.1'])(
  '%s is here',
  (host) => {
    expect(isLoopback(host)).toBe(true);
  },
);

test.each(['0.0.0.0', '::', '127.0.0.1.evil.com', 'localhost.evil.com', 'evil.com', '128.0.0.1', '', '127.0.0.1x'])(
  '%s is not only here',
  (host) => {
    expect(isLoopback(host)).toBe(false);
  },
);

test.each([
  ['localhost:8321', 'localhost'],
  ['[::1]:80', '[::1]'],
  ['Evil.COM', 'evil.com'],
  ['a b', undefined],
  ['', undefined],
])('the name of %j is %j', (header, name) => {
  expect(hostName(header)).toBe(name);
});
