import { type Alternatives, atomOf, type Part } from './grammar-parts.js';

/** The rules that a sequence of parts names. */
export function namesIn(parts: readonly Part[]): string[] {
  return parts.flatMap((part) => atomOf(part).rule ?? []);
}

/**
 * The rules that a root needs, itself included, in strongly connected components: rules of one component can all reach each other.
 * Each component comes behind those that it needs. This is Tarjan's algorithm.
 */
export function componentsOf(root: string, get: (name: string) => Alternatives): string[][] {
  const components: string[][] = [];
  const indices = new Map<string, number>();
  const open: string[] = [];
  const isOpen = new Set<string>();
  /** The least index of an open rule that the rule reaches. */
  const visit = (name: string): number => {
    const index = indices.size;
    indices.set(name, index);
    open.push(name);
    isOpen.add(name);
    let least = index;
    for (const next of new Set(get(name).flatMap(namesIn))) {
      if (!indices.has(next)) least = Math.min(least, visit(next));
      else if (isOpen.has(next)) least = Math.min(least, indices.get(next) as number);
    }
    if (least === index) {
      const component = open.splice(open.indexOf(name));
      for (const each of component) isOpen.delete(each);
      components.push(component);
    }
    return least;
  };
  visit(root);
  return components;
}
