import { dirname, join, resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkCartridgeId, folderOfId, idOfFolder, isCartridgeId } from './cartridge-id.js';

/** Texts that are near to ids, and to ways out of a folder. */
const nearIds = fc.string({
  unit: fc.constantFrom('.', '/', '\\', 'a', 'B', '7', '-', '_', '%', '2', 'F', '~', ':', '\0', ' ', 'é'),
});
const ids = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(\/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$/);

describe('ids of cartridges', () => {
  it('takes names with one organisation, as the Python original has them', () => {
    expect(isCartridgeId('hazyresearch/cartridge-wauoq23f')).toBe(true);
    expect(isCartridgeId('notes.v2')).toBe(true);
    for (const id of ['', '.', '..', '../x', 'a/../b', 'a/b/c', '/a', 'a/', 'a\\b', '.hidden', 'a b', 'a\n', 'a'.repeat(65)]) {
      expect(isCartridgeId(id), id).toBe(false);
    }
    expect(isCartridgeId('downloads')).toBe(false);
    expect(() => checkCartridgeId('../x')).toThrow(expect.objectContaining({ status: 400, param: 'id' }));
  });

  it('gives every id a folder of its own, directly in the library', () => {
    fc.assert(
      fc.property(fc.oneof(ids, nearIds, fc.string()), (text) => {
        if (!isCartridgeId(text)) return;
        const folder = resolve(join('/library', folderOfId(text)));
        expect(dirname(folder)).toBe('/library');
        expect(idOfFolder(folderOfId(text))).toBe(text);
      }),
      { numRuns: 2_000 },
    );
  });

  it('takes no folder for an id that would not have made it', () => {
    fc.assert(
      fc.property(fc.oneof(nearIds, ids.map(encodeURIComponent)), (name) => {
        const id = idOfFolder(name);
        if (id !== undefined) expect(folderOfId(id)).toBe(name);
      }),
      { numRuns: 2_000 },
    );
    expect(idOfFolder('.incoming')).toBeUndefined();
    expect(idOfFolder('org%2Fname')).toBe('org/name');
  });
});
