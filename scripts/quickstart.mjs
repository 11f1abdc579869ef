// `npm run quickstart`: works straight after a clone. Installs when needed, then is `cartridges quickstart`.

import { ensureInstalled } from './ensure-installed.mjs';

ensureInstalled();
process.argv.splice(2, 0, 'quickstart');
await import('../bin/cartridges.js');
