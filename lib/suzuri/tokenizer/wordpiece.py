"""WordPiece: words cut into pieces, those after a word's first marked with `##`."""

CONTINUES = "##"
MAX_CHARACTERS = 100  # transformers' WordpieceTokenizer makes a longer word unknown


def continues_word(piece: str) -> bool:
    """Is the piece the continuation of a word? `##都` is; `##`, a word of its own, is not."""
    return piece.startswith(CONTINUES) and piece != CONTINUES


def letters(piece: str) -> str:
    """The characters that a piece stands for: "##都" -> "都"."""
    return piece[len(CONTINUES) :] if continues_word(piece) else piece


def cut(word: str, ids: dict[str, int], unknown: int) -> list[int]:
    """Ids of one word: the longest piece that fits, then the longest `##` piece after it, …

    A word that cannot be covered, or has more than MAX_CHARACTERS, is `unknown` as a whole. As in transformers'
    WordpieceTokenizer, white space inside (U+0085 is a word to MeCab) separates words or is skipped.
    """
    if word in ids:
        return [ids[word]]
    found = []
    for part in word.split():
        pieces, start, prefix = [], 0, ""
        while start < len(part) <= MAX_CHARACTERS:
            end = len(part)
            while end > start and prefix + part[start:end] not in ids:
                end -= 1
            if end == start:
                break
            pieces.append(ids[prefix + part[start:end]])
            start, prefix = end, CONTINUES
        found += pieces if start == len(part) else [unknown]
    return found
