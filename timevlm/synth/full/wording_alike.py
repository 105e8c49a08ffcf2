"""Other words for the same: what makes more patterns of level "full" out of a few.

The synonym replacement of Wei and Zou ("EDA", arXiv 1901.11196), with phrases that mean the same in
whatever this world asks.
"""

import re

# Phrases of a line mean the same; one that holds another stands before it.
_ALIKE = tuple(
    tuple(line.split(" | "))
    for line in """
which one of the objects | which of the objects | which object
which one of the scenes | which of the scenes | which scene
which one of these | which of these
which one is | which is
which one moves | which moves
what colour | which colour
what shape | which shape
what size | which size
what pattern | which pattern
what text | which text
tell me the | name the
what is written | what can you read
is shown | is visible | can be seen
does the video show | can you see | do you see
how often | how many times
at what time | at which second
during which time | from when to when | in which part of the video
lasts the longest | is the longest
disappear | vanish
disappears | vanishes
begin | start
begins | starts
faster | quicker
bigger | larger
stop moving | come to rest
stops moving | comes to rest
something | an object
""".strip().split("\n")
)


def reworded(pattern: str) -> list[str]:
    """The pattern with one phrase in place of another that means the same, in every way."""
    found = []
    for phrases in _ALIKE:
        place = re.search(rf"\b(?:{'|'.join(phrases)})\b", pattern, re.IGNORECASE)
        if place is None:
            continue
        for phrase in phrases:
            if phrase != place[0].lower():
                other = phrase.capitalize() if place[0][0].isupper() else phrase
                found.append(pattern[: place.start()] + other + pattern[place.end() :])
    return found
