import { closest, distance } from 'fastest-levenshtein';

/** The name that was probably meant, or nothing when none is near. A name without dots is compared with last parts too. */
export function suggest(name: string, known: readonly string[]): string | undefined {
  const lastPart = (path: string) => path.slice(path.lastIndexOf('.') + 1);
  const namesake = known.find((path) => lastPart(path) === lastPart(name));
  if (namesake !== undefined) return namesake;
  if (known.length === 0) return undefined;
  const nearest = closest(name, known);
  const nearestPart = closest(lastPart(name), known.map(lastPart));
  if (isNear(name, nearest)) return nearest;
  return isNear(lastPart(name), nearestPart) ? known.find((path) => lastPart(path) === nearestPart) : undefined;
}

/** A third of the letters may differ, two of a short name. */
function isNear(name: string, candidate: string): boolean {
  return distance(name, candidate) <= Math.max(2, Math.floor(name.length / 3));
}
