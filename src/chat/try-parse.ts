/** The value of a JSON text; undefined, which no JSON text means, for text that is none. */
export function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
