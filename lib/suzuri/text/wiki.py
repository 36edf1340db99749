"""Articles out of a MediaWiki search index (Cirrus): which records are articles, and what of their text is prose.

A dump is NDJSON: an action line {"index": {"_id": …}}, then the record {"title": …, "namespace": 0, "text": …}.
`text` is the rendered page on one line, with what rendering leaves behind: note marks, the notes
themselves, unexpanded templates, invisible characters.
"""

import json
import re

from suzuri.errors import DataError

try:
    from orjson import loads
except ImportError:  # the same documents at two thirds of the speed
    from json import loads

# What a record is dropped for. Redirect pages are marked by page_type or redirect_target; the `redirect` list
# of an article is another thing: the titles that lead to it.
REDIRECT_TEXT = re.compile(r"#(?:REDIRECT|転送)\b|#転送|転送先: ?\S[^。]*$", re.IGNORECASE)


def article(record):
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
    text = clean(text, title if isinstance(title, str) else "")
    return (text, None) if text else (None, "empty")


def articles(lines, counts):
    """Lines of NDJSON (bytes) -> (text or None, reason or None, record) for each record.

    Action lines and blank lines are passed over. `counts`, a Counter, is added to: "lines", "broken" (no
    JSON object), "documents", "redirect", "namespace", "empty". Raises DataError at the end when more than 1
    in 1,000 lines was broken (a single one always passes), at once when the input is plainly something else.
    """
    for line in lines:
        if not line or line.isspace():
            continue
        counts["lines"] += 1
        if line.startswith(b'{"index":{'):
            continue
        try:
            record = parse(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError):
            counts["broken"] += 1
            if counts["broken"] > 1000 and counts["broken"] > counts["lines"] / 2:
                raise DataError("input", "is not Cirrus NDJSON: most of its lines are no JSON objects") from None
            continue
        if "index" in record and len(record) == 1:  # an action line in another spelling
            continue
        text, reason = article(record)
        counts[reason or "documents"] += 1
        yield text, reason, record
    check_broken(counts)


def parse(line):
    try:
        return loads(line)
    except ValueError:
        return json.loads(line)  # which takes half a surrogate pair ("\\ud83d"); orjson does not


def check_broken(counts):
    if counts["broken"] > max(1, counts["lines"] / 1000):
        share = f"{counts['broken']:,} of {counts['lines']:,} lines are broken JSON"
        raise DataError("input", f"{share}, more than 1 in 1,000; fetch the dump again")


# Characters without a shape of their own: controls, formats (zero-width, bidi, soft hyphen, BOM, tags), variation
# selectors, fillers, surrogates, private use, non-characters. Blanks are not among them: str.split knows those.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)
# Marks of notes, always in square brackets: [1] [注 1] [注釈 2] [出典3] [note 1] [A 1], also with the page
# that {{Rp}} puts behind them ([1]:23); and what editors ask for: [要出典] [要ページ番号] [いつ?] [リンク切れ].
# [m] (phonetics), [0, 255], [編集] (a menu) and [中略] are text.
MARK = re.compile(
    r"""[\[［](?:
        (?: (?: [注註][釈解]? | [脚原訳][注註] | 補[注足]? | 出典 | 文献 | 資料 | 典拠 | 参考(?:文献)? | 引用 | 備考
              | 書籍 | 新聞 | 雑誌 | 報道 | 論文 | (?:note|nb|ref|fn|n)\b\.? ) \s? \d{1,4}
          | [A-Za-zα-ωΑ-Ω*#※†] \s \d{1,4}
          | \d+ ) [\]］] (?: : \s? \d{1,4} (?: [-–,、] \s? \d{1,4} )* (?= [\s。、\[［] | $ ) )?
      | (?: 要 [^\[\]［］]{1,40} | [^\[\]［］\x00-\x7f]{1,20} [?？] | [^\[\]［］]{1,20} 語版
          | (?: リンク切れ | リンク修正 | 出典無効 | 信頼性要検証 | 非一次資料 | 疑問点 | 脚注の使い方 )
            [^\[\]［］]{0,40}
        ) [\]］] )""",
    re.VERBOSE | re.IGNORECASE,
)
# The list of notes that ends a page: ` ^ 『広辞苑』… ^ a b c “公式サイト”…`, to the end of the text. A caret between
# two operands (`a ^ b`) is none, nor one that the sentence is about (`^ は再定義できる`).
FOOTNOTES = re.compile(r"(?:^|\s)\^\s(?![はがをのにでと])(?!(?<=[a-zA-Z0-9)\]]\s\^\s)[(a-zA-Z0-9])")
TEMPLATE = re.compile(r"\{\{+[^{}]+\}\}+")  # an innermost one
REF = re.compile(r"<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref>")
FILE_LINK = re.compile(r"\[\[(?:ファイル|画像|File|Image|Category|カテゴリ):[^\[\]]*\]\]", re.IGNORECASE)
NAVIGATION = re.compile(
    r"(?:(?:ナビゲーションに移動|検索に移動|出典[:：] ?フリー百科事典『ウィキペディア[^』]*』) ?(?:> ?)?)+"
)


def clean(text, title=""):
    """The prose of a page's `text`; runs of blanks become one space, line ends stay.

    Most pages need few of the regular expressions, and the test in front of each costs a tenth of it; to look
    for one character first costs a fifth of that.

    >>> clean("出典: フリー百科事典『ウィキペディア』 > 墨 墨\\u200bは、{{lang|en|ink}}黒い。[要出典] ^ 同書。", "墨")
    '墨は、黒い。'
    """
    spaced = text = text.strip()
    if not text.isprintable() or "  " in text:  # of all blanks only the space is printable
        spaced = text = single_spaced(text)
        if not text.isprintable():
            text = INVISIBLE.sub("", text)
    if "{" in text:
        found = "{{" in text
        while found:  # from the inside out
            text, found = TEMPLATE.subn("", text)
    if "<" in text and "<ref" in text:
        text = REF.sub("", text)
    if "[" in text or "［" in text:
        if "[[" in text:
            text = FILE_LINK.sub("", text)
        text = MARK.sub("", text)
    if "^" in text and (tail := FOOTNOTES.search(text)):
        text = text[: tail.start()]
    text = text.strip()
    if " > " in text[:300] or text.startswith(("ナビ", "検索", "出典")):
        text = without_navigation(text, title)
    return text if text is spaced else single_spaced(text)


def single_spaced(text):
    if "\n" in text:
        return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
    return " ".join(text.split())


def without_navigation(text, title):
    """Cut the trail in front of a page (`日本 > 東京都 > 新宿区 > 西新宿 西新宿は…`) and the site's own line."""
    for name in dict.fromkeys((title, re.sub(r" ?[(（][^()（）]*[)）]$", "", title))):
        end = f" > {name}"
        at = text.find(end, 0, 300) if name else -1
        rest = text[at + len(end) :]
        sentence = re.search(r"[。．！？!?]", text[:at]) and not text.startswith("出典")
        if at >= 0 and not sentence and (not rest or rest.startswith((" ", name))):
            return rest.strip()
    return NAVIGATION.sub("", text, count=1) if NAVIGATION.match(text) else text
