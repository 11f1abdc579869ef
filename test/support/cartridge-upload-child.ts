/** Runs in a process of its own: `cartridge-upload-child.ts FOLDER`. Uploads one cartridge, then half of another, and says so. */

import { openCartridgeLibrary } from '../../src/serving/cartridges/open-cartridge-library.js';
import { ADMIN, BookkeepingEngine, fileBytes, POCKET, pocketCartridge, streamOf } from './library-fixture.js';

const [folder] = process.argv.slice(2) as [string];
const library = await openCartridgeLibrary({ folder, engine: new BookkeepingEngine(), session: POCKET });
const bytes = await fileBytes(pocketCartridge(1));
await library.upload({ id: 'whole', stream: streamOf(bytes), replace: false }, ADMIN);
const pieces = [bytes.subarray(0, bytes.length / 2)];
const half = new ReadableStream<Uint8Array>(
  {
    pull(controller) {
      const piece = pieces.shift();
      if (piece) return controller.enqueue(piece);
      console.log('half of it is written');
      // Something has to keep the process alive until it is killed.
      return new Promise((resolve) => setTimeout(resolve, 60_000));
    },
  },
  // Nothing is pulled ahead, so the second pull comes when the first piece is on disk.
  { highWaterMark: 0 },
);
await library.upload({ id: 'half', stream: half, replace: false }, ADMIN);
