"""Entities as one tag per token (B-TYPE begins an entity, I-TYPE continues it, O is outside), and back."""

Span = tuple[int, int]
Entity = tuple[int, int, str]


def tag(spans: list[Span], entities: list[Entity]) -> list[str]:
    """["O", "B-地名", "I-地名", …], one tag per token: a token is in an entity if it shares a character with it.

    A token that shares characters with two entities belongs to the first.
    """
    tags = ["O"] * len(spans)
    for start, end, kind in sorted(entities):
        inside = [i for i, (a, b) in enumerate(spans) if a < end and b > start and tags[i] == "O"]
        for mark, i in zip("B" + "I" * len(inside), inside, strict=False):
            tags[i] = f"{mark}-{kind}"
    return tags


def entities_of(spans: list[Span], tags: list[str]) -> set[Entity]:
    """{(start, end, type), …}: an entity begins at a B, or an I of a new type, and goes on while I of its type follow.

    >>> entities_of([(0, 2), (2, 3), (3, 4)], ["B-地名", "I-地名", "O"])
    {(0, 3, '地名')}
    """
    found, last = [], "O"
    for (start, end), t in zip(spans, tags, strict=True):
        mark, _, kind = t.partition("-")
        if mark == "I" and last == kind:
            found[-1][1] = end
        elif mark != "O":
            found.append([start, end, kind])
        last = kind if mark != "O" else "O"
    return {tuple(entity) for entity in found}
