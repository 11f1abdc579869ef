/** Values of `--cartridge` as a map from the name to the path: `name=path`, or a path alone that is its own name. */
export function cartridgePaths(values: readonly string[]): Map<string, string> {
  return new Map(
    values.map((value) => {
      // A path with an equals sign in it can be written with a folder before it.
      const [, name, path] = /^([\w.-]+)=(.+)$/.exec(value) ?? [];
      return name === undefined || path === undefined ? [value, value] : [name, path];
    }),
  );
}
