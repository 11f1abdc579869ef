/** What belongs to one scope. */
export interface ScopedRecord {
  readonly id: string;
  readonly scope: string;
  readonly createdAtMs: number;
}

/**
 * Records by scope and id. A look-up sees the records of one scope alone, so an id of another scope is found as little, and as
 * fast, as one that does not exist.
 */
export class ScopedRecords<T extends ScopedRecord> {
  readonly #scopes = new Map<string, Map<string, T>>();

  get(scope: string, id: string): T | undefined {
    return this.#scopes.get(scope)?.get(id);
  }

  /** Adds a record, or replaces the one with its id. */
  set(record: T): void {
    const { scope, id } = record;
    const records = this.#scopes.get(scope) ?? new Map<string, T>();
    this.#scopes.set(scope, records.set(id, record));
  }

  delete({ scope, id }: T): void {
    const records = this.#scopes.get(scope);
    records?.delete(id);
    if (records?.size === 0) this.#scopes.delete(scope);
  }

  /** The newest first. */
  list(scope: string): T[] {
    return [...(this.#scopes.get(scope)?.values() ?? [])].sort(newestFirst);
  }

  all(): T[] {
    return [...this.#scopes.values()].flatMap((records) => [...records.values()]);
  }
}

function newestFirst(a: ScopedRecord, b: ScopedRecord): number {
  return b.createdAtMs - a.createdAtMs || (a.id < b.id ? 1 : -1);
}
