/** A text about nothing that anybody trains a cartridge on: the start of a cartridge that shall know nothing of its corpus. */
export const UNRELATED_TEXT = `A slope is how steeply a path rises. Walk along a level street and the slope is zero; climb a stair and it is large.
Whoever draws a hill on paper draws lines that join places of the same height. Where the lines lie close together the hill is steep,
where they lie far apart it is gentle. Water knows this without a map: it runs straight across the lines, always down the steepest way.

The same picture serves for things that are not hills. A cook who tries more salt and then less moves along a line and feels whether the
soup gets better. With two spices there is a plane, with three a room, and with a whole shelf of them a space that nobody can draw. At every
point of it there is still one direction in which the soup gets better fastest, and the distance to walk before asking again is a matter of
patience: short steps are safe and slow, long steps are fast and may jump over the valley that they were looking for.

A ball that rolls down a bowl comes to rest at the bottom. On a mountain range it comes to rest in the first hollow, which is seldom the
deepest one. Shaking the ground a little lets it leave shallow hollows and keeps it in deep ones. Rolling with some weight carries it across
small bumps. These two ideas, a little noise and a little memory, explain most of what people do when they search for the lowest place in a
country that they cannot see.

Measuring a slope needs two heights and one distance. If the distance is too great, the road may have turned in between; if it is too small,
the measuring rod is not exact enough to see a difference. Good surveyors take a step that fits the ground. They also write down where they
stood, because a number without a place is of no use to those who come later.
`;
