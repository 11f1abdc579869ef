/** Mean, or null of nothing. */
export function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Middle value, between the two middle ones of an even number; null of nothing. */
export function median(values: readonly number[]): number | null {
  return percentile(values, 0.5);
}

/** The value below which the share `share` (0 to 1) lies, interpolated linearly between neighbours; null of nothing. */
export function percentile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const rank = share * (sorted.length - 1);
  const below = sorted[Math.floor(rank)] as number;
  const above = sorted[Math.ceil(rank)] as number;
  return below + (above - below) * (rank - Math.floor(rank));
}

/** Share of true values, 0 to 1; null of nothing. */
export function share(values: readonly boolean[]): number | null {
  return mean(values.map(Number));
}

/** exp of the mean negative natural-log likelihood of a token; null of no tokens. */
export function perplexity(negativeLogLikelihood: number, tokens: number): number | null {
  return tokens === 0 ? null : Math.exp(negativeLogLikelihood / tokens);
}
