/** A part of a text: UTF-16 offsets, end excluded. */
export interface Span {
  start: number;
  end: number;
}

/** The ways to cut a text, best first. Each leaves nothing out, and white space at a cut belongs to the part before it. */
export const CUTS = [cutAtParagraphs, cutAtSentences, cutAtLines, cutInHalf] as const;

const HEADING = String.raw`#{1,6} |\\(?:chapter|(?:sub){0,2}section|paragraph)\b`;
/** White space behind the heading's line counts from its line end on: two ways to read it would take quadratic time. */
const LONE_HEADING = new RegExp(`^\\s*(?:${HEADING})[^\\n]*(?:\\n\\s*)?$`);
const PARAGRAPH_END = new RegExp(`\\n(?:[ \\t\\r]*\\n)+|\\n(?=${HEADING})`, 'g');
const SENTENCE_END = /[.!?…]["'”’)\]]*\s+(?!\p{Ll})|[。！？]\s*/gu;
const LINE_END = /\n/g;

/** Paragraphs end at blank lines and before Markdown and LaTeX headings; a heading stays with the text below it. */
function cutAtParagraphs(text: string, span: Span): Span[] {
  const paragraphs: Span[] = [];
  let heading: Span | undefined;
  for (const part of cutAfter(text, span, PARAGRAPH_END)) {
    const paragraph: Span = { start: heading?.start ?? part.start, end: part.end };
    heading = LONE_HEADING.test(text.slice(part.start, part.end)) ? paragraph : undefined;
    if (!heading) paragraphs.push(paragraph);
  }
  return heading ? [...paragraphs, heading] : paragraphs;
}

function cutAtSentences(text: string, span: Span): Span[] {
  return cutAfter(text, span, SENTENCE_END);
}

function cutAtLines(text: string, span: Span): Span[] {
  return cutAfter(text, span, LINE_END);
}

/** At the white space nearest to the middle, or inside a word that is longer than half of the span. */
function cutInHalf(text: string, { start, end }: Span): Span[] {
  const middle = (start + end) >> 1;
  let cut = isLowSurrogate(text.charCodeAt(middle)) ? middle + 1 : middle;
  for (let distance = 0; distance < (end - start) >> 2; distance++) {
    const space = [middle + distance, middle - distance].find((at) => /\s/.test(text.charAt(at)));
    if (space !== undefined) {
      cut = space + 1;
      break;
    }
  }
  return [
    { start, end: cut },
    { start: cut, end },
  ];
}

function cutAfter(text: string, { start, end }: Span, boundary: RegExp): Span[] {
  const spans: Span[] = [];
  let from = start;
  for (const match of text.slice(start, end).matchAll(boundary)) {
    const to = start + match.index + match[0].length;
    spans.push({ start: from, end: to });
    from = to;
  }
  if (from < end) spans.push({ start: from, end });
  return spans;
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}
