import { z } from '@hono/zod-openapi';

/** A field that may be left out or null, which both mean `otherwise`. */
export function optional<T extends z.ZodType>(schema: T, otherwise: z.output<T>) {
  return schema
    .nullish()
    .transform((given): z.output<T> => given ?? otherwise)
    .openapi({ default: otherwise });
}

/**
 * A list or record that is counted before its entries are looked at: a schema collects what is wrong with every entry, which
 * for a million wrong entries is more than memory holds.
 */
export function atMost<T extends z.ZodType>(limit: number, schema: T) {
  return z.preprocess((given, context) => {
    const count = countEntries(given);
    if (count <= limit) return given;
    context.addIssue({ code: 'custom', message: `has ${count} entries, more than ${limit}` });
    return z.NEVER;
  }, schema);
}

/** A field of OpenAI's that this server cannot honour: refused unless it asks for what is done anyway. */
export function unsupported(...neutral: (string | number | boolean)[]) {
  const allowed = [null, ...neutral].map((value) => JSON.stringify(value)).join(' or ');
  const error = `not supported: leave it out, or send ${allowed}`;
  const literals = neutral.map((value) => z.literal(value, { error }));
  return z
    .union([z.null({ error }), ...literals], { error })
    .optional()
    .describe('Not supported.');
}

/** The same for a list, which asks for nothing when it is empty: an answer of OpenAI may come back in a history with such ones. */
export function unsupportedList() {
  const error = 'not supported: leave it out, or send null or []';
  const empty = z.array(z.unknown(), { error }).max(0, { error });
  return z
    .union([z.null({ error }), empty], { error })
    .optional()
    .describe('Not supported.');
}

function countEntries(value: unknown): number {
  if (Array.isArray(value)) return value.length;
  return typeof value === 'object' && value !== null ? Object.keys(value).length : 0;
}
