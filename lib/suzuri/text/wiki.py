"""Articles from a dump of Wikipedia's search index (Cirrus): which records are articles, and the prose of their text.

A dump is NDJSON: an action line {"index": {"_id": …}}, then the record {"title": …, "namespace": 0, "text": …}.
`text` is the rendered page on one line, with the remains of rendering: note marks, the notes themselves, lists of
links, unexpanded templates, invisible characters. Between two blocks of the page (paragraphs, headings, notes, items of
a list) there is a space; within a block there is none after 。, which is how prose is told from a note.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from suzuri.errors import DataError
from suzuri.text.characters import REMOVED_RUN
from suzuri.text.inputs import parse_json

# Redirect pages are marked by page_type or redirect_target, or by their text. The `redirect` list of an article is
# something else: the titles that lead to it.
REDIRECT_TEXT = re.compile(r"#(?:REDIRECT|転送)\b|#転送|転送先: ?\S[^。]*$", re.IGNORECASE)


def article(record: dict) -> tuple[str | None, str | None]:
    """A record -> (its clean text, None), or (None, "redirect" | "namespace" | "empty").

    >>> article({"namespace": 0, "title": "硯", "text": "硯（すずり）は文具。[1] ^ 『広辞苑』"})
    ('硯（すずり）は文具。', None)
    """
    redirect = record.get("redirect")
    if record.get("page_type") == "redirect" or record.get("redirect_target"):
        return None, "redirect"
    if redirect and not isinstance(redirect, list):
        return None, "redirect"
    if record.get("namespace") not in (0, "0", None):
        return None, "namespace"
    text = record.get("text")
    if not text or not isinstance(text, str):
        return None, "empty"
    if text.startswith(("#", "転送先")) and REDIRECT_TEXT.match(text):
        return None, "redirect"
    title = record.get("title")
    headings = record.get("heading")
    headings = [h for h in headings if isinstance(h, str)] if isinstance(headings, list) else []
    text = clean(text, title if isinstance(title, str) else "", headings)
    return (text, None) if text else (None, "empty")


def articles(
    lines: Iterable[bytes], counts: Counter, name: str = "standard input"
) -> Iterator[tuple[str | None, str | None, dict]]:
    """Lines of NDJSON -> (text or None, reason or None, record) for each record, as from `article`.

    Action lines and blank lines are skipped. Adds to `counts`: "lines", "broken" (not a JSON object), "invalid" (bytes
    that are not UTF-8), "documents", "redirect", "namespace", "empty", for check_counts. Raises DataError if the input
    is obviously something else.
    """
    for line in lines:
        if not line or line.isspace():
            continue
        counts["lines"] += 1
        if line.startswith(b'{"index":{'):
            continue
        try:
            record, invalid = parse_json(line)
            counts["invalid"] += invalid
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError):
            if counts["lines"] == 1:
                check_start(line, name)
            counts["broken"] += 1
            if counts["broken"] > 1000 and counts["broken"] > counts["lines"] / 2:
                raise DataError(name, f"is not {CIRRUS}: most of its lines are not JSON objects") from None
            continue
        if "index" in record and len(record) == 1:  # an action line, written differently
            continue
        if isinstance(record.get("_source"), dict) and "text" not in record:
            raise DataError(name, 'its records are in {"_source": …}, a search result; take them out: jq -c ._source')
        text, reason = article(record)
        counts[reason or "documents"] += 1
        yield text, reason, record


CIRRUS = "a dump of Wikipedia's search index (Cirrus NDJSON, which fetch-jawiki fetches)"
# What else the first line of an input may begin with.
STARTS = {
    b"<": f"is XML or HTML, not {CIRRUS}",
    b"[": f"is a JSON array, not {CIRRUS}; one record per line: jq -c '.[]'",
    b"INSERT INTO": f"is SQL, not {CIRRUS}",
}


def check_start(line: bytes, name: str) -> None:
    """Raise DataError if the first line of the input shows that it is something else."""
    for start, what in STARTS.items():
        if line.lstrip(b"\xef\xbb\xbf \t").startswith(start):
            raise DataError(name, what)


def check_counts(counts: Counter, name: str = "standard input") -> None:
    """Raise DataError if more than 1 in 1,000 lines was broken (one is always allowed), or there is no article."""
    if counts["broken"] > max(1, counts["lines"] / 1000):
        share = f"{counts['broken']:,} of {counts['lines']:,} lines are broken JSON"
        raise DataError(name, f"{share}, more than 1 in 1,000; fetch the dump again")
    if not counts["documents"]:
        found = f"{counts['lines']:,} lines, but no article in them" if counts["lines"] else "is empty"
        raise DataError(name, f"{found}; it should be {CIRRUS}")


REASONS = {
    "redirect": "redirects",
    "namespace": "of other namespaces",
    "empty": "without text",
    "broken": "broken lines",
    "invalid": "invalid bytes replaced",
}


def in_phrases(counts: Counter) -> dict[str, int]:
    """What articles() has counted, as a tool reports it."""
    found = {"lines in": counts["lines"], "documents out": counts["documents"]}
    return found | {what: counts[reason] for reason, what in REASONS.items() if counts[reason]}


# Marks of notes, always in square brackets: [1] [注 1] [注釈 2] [出典3] [note 1] [A 1], also with the page
# that {{Rp}} puts after them ([1]:23); and the requests of editors: [要出典] [要ページ番号] [いつ?] [リンク切れ].
# [m] (phonetics), [0, 255], [0], [要素数], [編集] (a menu) and [中略] are text.
NOTE_MARK = re.compile(
    r"""[\[［](?:
        (?: (?: [注註][釈解]? | [脚原訳][注註] | 補[注足]? | 出典 | 文献 | 資料 | 典拠 | 参考(?:文献)? | 引用 | 備考
              | 書籍 | 新聞 | 雑誌 | 報道 | 論文 | (?:note|nb|ref|fn|n)\b\.? ) \s? \d{1,4}
          | [A-Za-zα-ωΑ-Ω*#※†] \s \d{1,4}
          | [1-9１-９]\d* ) [\]］]
          (?: : \s? \d{1,4} (?: [-–,、] \s? \d{1,4} )* (?= [\s。、\[［] | $ ) )?
      | (?: 要(?: (?:高次|医学的?|信頼できる)?出典 | 検証 | (?:ページ|頁)番号 | (?:追加)?記述 | 追記
               | 加筆 | 説明 | 解説 | 詳細 | 曖昧さ回避 | 文献特定 | 非?[一二]次資料 | リンク修正
               | 校閲 | 改訳 | 翻訳 | 更新 | 確認 | 校正 | 推敲 | 脚注 )
          | 出典無効 | 信頼性要検証 | 非一次資料 | 独自研究 | 中立的な観点 | 正確性 | 疑問点 | リンク(?:切れ|修正)
          | 脚注の使い方 | 誰 | いつ | どこ | どの | どう | なぜ | 何 | 時期 | 出典 (?=[?？])
        ) (?: (?<=[誰つこのうぜ何]) [^\[\]［］\x00-\x7f]{0,15} [?？]
          | (?<![誰つこのうぜ何]) (?: [^\w\[\]［］] [^\[\]［］]{0,40} | 範囲 | 科学 | 詳細情報 | が?必要 | [?？] )? )
        [\]］]
      | (?!日本) [^\[\]［］]{1,20} 語版 [\]］] )""",
    re.VERBOSE | re.IGNORECASE,
)
# The caret before a note of a list, ` ^ 『広辞苑』… ^ a b c “公式サイト”…`, but not one between two operands (`a ^ b`)
# nor one that the sentence is about (`^ は再定義できる`).
CARET = re.compile(r"(?:^|\s)\^\s(?![はがをのにでと])(?!(?<=[a-zA-Z0-9)\]]\s\^\s)[(a-zA-Z0-9])")
SOURCE = re.compile(r"\s?\^\s+(?:(?:[a-z]\s){2,}|(?:[a-z]\s)*(?:[『“\"《\[]|https?:|前掲|同[書上前]|脚注|ISBN))")
PROSE = re.compile("[ぁ-ん]。")  # an entry of a bibliography ends otherwise: 2001年。
BLOCK_OF_PROSE = re.compile(r"[。！？!?]\s.*[ぁ-ん]。", re.DOTALL)  # after the end of another
LAST_SENTENCE = re.compile(r".*[。！？!?][」』）)]*(?=\s)", re.DOTALL)
# Headings of sections without prose at the end of a page.
TAIL = (
    "(?:脚注|注釈|注記|出典|参考(?:文献|資料|図書)|関連(?:項目|書籍|文献|リンク)|外部(?:リンク|サイト)"
    "|(?<=.)[・、と/ ](?=.))+"
)
TAIL_ONLY = re.compile(TAIL)
TAIL_HEADING = re.compile(rf"(?:^|(?<=[。．.！？!?」』）)\]]))\s*{TAIL}(?:\[編集\])?(?=\s|$)")
BEFORE_NOTES = re.compile(rf"(?:^|[。．.！？!?）)」』”\]]|\s{TAIL}(?:\[編集\])?)\s*$")
REGISTER = re.compile(r"\s?「?https?://[^\s」]*」?\s?から取得.*|(?:^|\s)(?:隠し)?カテゴリ\s?[:：].*", re.DOTALL)
STUB = re.compile(
    r"\s?この(?:項目|記事|ページ|節)は、?[^。\s]{0,60}書きかけの?(?:項目|記事|ページ|節|もの)?です。"
    r"(?:この(?:項目|記事|ページ|節)を[^。]{0,20}加筆[^。]{0,30}(?:求めて(?:い|おり)ます|ください|下さい)"
    r"(?:[（(][^（）()。]*[）)])?。?)?"
)
TEMPLATE = re.compile(r"\{\{+[^{}]+\}\}+")  # an innermost one
REF = re.compile(r"<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref>")
FILE_LINK = re.compile(r"\[\[(?:ファイル|画像|File|Image|Category|カテゴリ):[^\[\]]*\]\]", re.IGNORECASE)
NAVIGATION = re.compile(
    r"(?:(?:ナビゲーションに移動|検索に移動|出典[:：] ?フリー百科事典『ウィキペディア[^』]*』) ?(?:> ?)?)+"
)


def clean(text: str, title: str = "", headings: Sequence[str] = ()) -> str:
    """The prose of a page's `text`; a run of blanks becomes one space, line ends stay.

    headings: of the sections of the page, if they are known.

    Most pages need few of the regular expressions. The test before each takes a tenth of its time, and the search for
    a single character before that test takes a fifth of the test's. str.isprintable does not notice some invisible
    characters (variation selectors, fillers): on a page without others they stay until split-sentences.

    >>> clean("出典: フリー百科事典『ウィキペディア』 > 墨 墨\\u200bは、{{lang|en|ink}}黒い。[要出典] ^ 同書。", "墨")
    '墨は、黒い。'
    """
    spaced = text = text.strip()
    if not text.isprintable() or "  " in text:  # of all blanks only the space is printable
        spaced = text = single_spaced(text)
        if not text.isprintable():
            text = REMOVED_RUN.sub("", text)
    if "{" in text:
        found = "{{" in text
        while found:  # from the inside out
            text, found = TEMPLATE.subn("", text)
    if "<" in text and "<ref" in text:
        text = REF.sub("", text)
    if "[" in text or "［" in text:
        if "[[" in text:
            text = FILE_LINK.sub("", text)
        text = NOTE_MARK.sub("", text)
    text = without_tail(text.strip(), headings)
    if " > " in text[:300] or text.startswith(("ナビ", "検索", "出典")):
        text = without_navigation(text, title)
    return text if text is spaced else single_spaced(text)


def without_tail(text: str, headings: Sequence[str]) -> str:
    """The text without the sections at its end that hold no prose (notes, sources, links), categories and notices.

    With `headings` these sections are those with a heading as in TAIL that no other follows. They begin where it is in
    the text; if, as in newer dumps, it is not, what follows the last sentence is links. Without, a heading as in TAIL
    after the last prose begins them.
    """
    rest = text[end_of_prose(text) :]
    if "カテゴリ" in rest or "から取得" in rest:
        text = text[: len(text) - len(rest)] + REGISTER.sub("", rest)
    if "書きかけ" in text[-300:]:
        text = STUB.sub("", text).rstrip()
    tails, end = [], len(text)
    for heading in reversed(headings):
        if not TAIL_ONLY.fullmatch(heading):
            break
        tails.append(heading)
        places = [m.start() for m in re.finditer(rf"(?:^|\s){re.escape(heading)}(?:\[編集\])?(?=\s|$)", text[:end])]
        end = places[-1] if places else end
    if end < len(text):
        text = text[:end]
    elif tails and any(re.search("項目|リンク|サイト|参考|書籍|文献", heading) for heading in tails):
        text = last[0] if (last := LAST_SENTENCE.match(text)) else text
    if "^" in text:
        text = without_notes(text, bool(tails))
    if not headings and (found := TAIL_HEADING.search(text, end_of_prose(text))):
        text = text[: found.start()]
    return text.rstrip()


def end_of_prose(text: str) -> int:
    """Where the last sentence of prose ends."""
    at = len(text)
    while (at := text.rfind("。", 0, at)) > 0:
        if PROSE.match(text, at - 1):
            return at + 1
    return 0


def without_notes(text: str, expected: bool) -> str:
    """The text without the list of notes that reaches its end. `expected`: the page has a section of notes.

    Going back from the end, a note is one block: after its 。 and a blank there is no more prose. If no such section is
    known, it names a source or is short. The first one follows a sentence or a heading, or begins as a source does.
    """
    starts, end = [], len(text)
    for start in reversed([caret.start() for caret in CARET.finditer(text)]):
        note = text[start:end]
        if BLOCK_OF_PROSE.search(note) or not (expected or SOURCE.match(note) or len(PROSE.findall(note)) <= 3):
            break
        starts.append(start)
        end = start
    for start in reversed(starts):
        if BEFORE_NOTES.search(text[max(0, start - 20) : start]) or SOURCE.match(text, start):
            return text[:start]
    return text


def single_spaced(text: str) -> str:
    """Each run of blanks in a line as one space, without empty lines."""
    if "\n" in text:
        return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
    return " ".join(text.split())


def without_navigation(text: str, title: str) -> str:
    """The text without the path before it (`日本 > 東京都 > 新宿区 > 西新宿 西新宿は…`) and the site's own line."""
    for name in dict.fromkeys((title, re.sub(r" ?[(（][^()（）]*[)）]$", "", title))):
        end = f" > {name}"
        at = text.find(end, 0, 300) if name else -1
        rest = text[at + len(end) :]
        sentence = re.search(r"[。．！？!?]", text[:at]) and not text.startswith("出典")
        if at >= 0 and not sentence and (not rest or rest.startswith((" ", name))):
            return rest.strip()
    return NAVIGATION.sub("", text, count=1) if NAVIGATION.match(text) else text
