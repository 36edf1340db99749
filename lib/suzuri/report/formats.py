"""Formats of numbers and texts for people to read, and of the report's tables."""

import json
import unicodedata

HIDDEN = ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")


def figure(x: float | None) -> str:
    """1234567 -> '1,234,567', 0.000123456 -> '0.0001235', None -> '–'."""
    if x is None:
        return "–"
    return f"{x:.4g}" if abs(x) < 1e4 and x != int(x) else f"{x:,.0f}"


def percent(part: float, whole: float) -> str:
    """'7.7 %'; two digits below one per cent, '0.013 %', so that a rare thing does not become zero."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 1 else f"{share:.2g} %"


def with_share(part: float, whole: float) -> str:
    """94 of 1222 -> '94 (7.7 %)'."""
    return f"{figure(part)} ({percent(part, whole)})"


def setting(value) -> str | int:
    """A setting of a manifest: text and integers as they are, other values as JSON."""
    return value if isinstance(value, str) or type(value) is int else json.dumps(value, ensure_ascii=False)


def visible(text: str) -> str:
    """Text with control characters and invisible ones replaced by their codes: 'a\\0b' -> 'a‹U+0000›b'."""
    hidden = {c for c in set(text) if unicodedata.category(c) in HIDDEN or c in "\u200b\u200e\u200f\ufeff"}
    return text.translate({ord(c): f"‹U+{ord(c):04X}›" for c in hidden})


def table(header: list[str], rows: list, align: str = "") -> tuple[str, dict]:
    """A block of kind table. A row that is a str is the title of the rows below it.

    align: a letter per column: l text, r numbers, j Japanese, c code; default: l for the first, r for the others.
    """
    return "table", {"header": header, "rows": rows, "align": align or "l" + "r" * (len(header) - 1)}


def table_of_columns(columns: dict[str, dict]) -> tuple[str, dict]:
    """{"a": {"steps": 3}, "b": {"steps": 5}} -> a table with columns a and b and the row steps."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    return table(["", *columns], [[key, *(column.get(key) for column in columns.values())] for key in keys])
