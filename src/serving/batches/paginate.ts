import type { RequestError } from '../request-error.js';

export interface PageQuery {
  after?: string | undefined;
  limit: number;
}

/**
 * One page of a list, as OpenAI's clients walk through lists. The id that a page begins behind may be gone meanwhile.
 *
 * @param missing  What to throw for it then.
 */
export function paginate<T extends { id: string }>(
  items: readonly T[],
  { after, limit }: PageQuery,
  missing: (id: string) => RequestError,
) {
  const start = after === undefined ? 0 : items.findIndex(({ id }) => id === after) + 1;
  if (after !== undefined && start === 0) throw missing(after);
  const data = items.slice(start, start + limit);
  return {
    object: 'list' as const,
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: start + limit < items.length,
  };
}
