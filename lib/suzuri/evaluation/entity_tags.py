"""Entities as a tag a token (B-TYPE begins one, I-TYPE continues it, O is outside), and back."""


def tag(spans, entities):
    """["O", "B-地名", "I-地名", …], a tag a token: those that have a character of an entity are in it.

    A token that has characters of two belongs to the first.
    """
    tags = ["O"] * len(spans)
    for start, end, kind in sorted(entities):
        inside = [i for i, (a, b) in enumerate(spans) if a < end and b > start and tags[i] == "O"]
        for mark, i in zip("B" + "I" * len(inside), inside, strict=False):
            tags[i] = f"{mark}-{kind}"
    return tags


def entities_of(spans, tags):
    """{(start, end, type), …}: from a B, or an I of another type than before, as long as I of its type follow.

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
