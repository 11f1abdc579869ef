/** What may wait in a line. */
interface Waiting {
  readonly scope: string;
}

/** Waits in order inside a scope; the scopes take turns. With one scope it is a plain queue. */
export class WaitingLine<T extends Waiting> {
  /** The scope whose turn is next comes first: a Map keeps the order of insertion. */
  readonly #scopes = new Map<string, T[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  of(scope: string): readonly T[] {
    return this.#scopes.get(scope) ?? [];
  }

  add(entry: T): void {
    const line = this.#scopes.get(entry.scope);
    if (line) line.push(entry);
    else this.#scopes.set(entry.scope, [entry]);
    this.#size++;
  }

  /** Whose turn it is among the first `reach` of each scope, those left out that are passed over. */
  next(passedOver: ReadonlySet<T>, reach = Number.POSITIVE_INFINITY): T | undefined {
    for (const line of this.#scopes.values()) {
      const entry = line.slice(0, reach).find((each) => !passedOver.has(each));
      if (entry) return entry;
    }
    return undefined;
  }

  /** Takes out an entry that had its turn; its scope is the last one then. */
  take(entry: T): void {
    const line = this.#scopes.get(entry.scope) as T[];
    this.#scopes.delete(entry.scope);
    this.#size--;
    line.splice(line.indexOf(entry), 1);
    if (line.length > 0) this.#scopes.set(entry.scope, line);
  }

  /** Takes out all entries that match, without touching whose turn it is. */
  remove(matching: (entry: T) => boolean): T[] {
    const removed: T[] = [];
    for (const [scope, line] of [...this.#scopes]) {
      const kept = line.filter((entry) => !matching(entry) || !removed.push(entry));
      if (kept.length > 0) this.#scopes.set(scope, kept);
      else this.#scopes.delete(scope);
    }
    this.#size -= removed.length;
    return removed;
  }

  /** The first ones that would be taken, if all went in. */
  first(count: number): T[] {
    const lines = [...this.#scopes.values()];
    const entries: T[] = [];
    for (let place = 0; entries.length < count && lines.some((line) => place < line.length); place++) {
      for (const line of lines) if (line[place]) entries.push(line[place] as T);
    }
    return entries.slice(0, count);
  }

  *[Symbol.iterator](): Iterator<T> {
    for (const line of this.#scopes.values()) yield* line;
  }
}
