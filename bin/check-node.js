// Plain JavaScript that old versions of Node can parse: it is what tells their users to get a newer one.

const REQUIRED = [20, 19];

/** Ends the process with a clear message unless this version of Node can run the package. */
export function checkNode(version = process.versions.node) {
  if (isSupportedNode(version)) return;
  process.stderr.write(`error: Node ${version} is too old; cartridges needs ${REQUIRED.join('.')} or newer\n`);
  process.stderr.write('  hint: install a current version from https://nodejs.org, or with the tool that manages yours\n');
  process.exit(70);
}

export function isSupportedNode(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > REQUIRED[0] || (major === REQUIRED[0] && minor >= REQUIRED[1]);
}
