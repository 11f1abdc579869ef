import { expect, it } from 'vitest';
import { cartridgePaths } from './cartridge-names.js';

it.each([
  ['notes.safetensors', 'notes.safetensors', 'notes.safetensors'],
  ['notes=runs/a.safetensors', 'notes', 'runs/a.safetensors'],
  ['runs/a=b.safetensors', 'runs/a=b.safetensors', 'runs/a=b.safetensors'],
  ['notes=', 'notes=', 'notes='],
])('reads %s', (value, name, path) => {
  expect([...cartridgePaths([value])]).toEqual([[name, path]]);
});
