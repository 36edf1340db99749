"""Cleaning and splitting of Japanese text: a block of paragraphs in, one sentence a line out.

The rules are those of the README's section on sentences. Everything works on a block of lines at once
and leaves the loops over characters to the regular expression engine and to str methods:

1. decode, invalid bytes become U+FFFD and are counted
2. `tame`: lines with characters to remove, or with brackets that are not properly paired, are rewritten;
   from here on every bracket has its partner, so the next step needs no stack
3. `SENTENCE` finds the sentences, on the text as written: NFKC would make … of ... and ． of .
4. NFKC, white space, blank lines
"""

import re
import unicodedata
from itertools import repeat

from suzuri.documents import count_lines, decode, squeeze

# --- characters ---------------------------------------------------------------------------------------------

# Full and half width are the same kind: （笑) is a pair.
PAIRS = ["「｢」｣", "『』", "（()）", "【】", "〈〉", "《》"]
OPENERS = "「｢『（(【〈《"
CLOSERS = "」｣』)）】〉》"
KIND = {c: kind for kind, chars in enumerate(PAIRS) for c in chars}

# Brackets without a partner, while we split: noncharacters, which `tame` has removed from the text itself.
STRAY = {ord(c): 0xFDD0 + i for i, c in enumerate(OPENERS + CLOSERS)}
UNSTRAY = [(chr(stray), chr(c)) for c, stray in STRAY.items()]
STRAY_CLOSERS = "".join(chr(STRAY[ord(c)]) for c in CLOSERS)

# Removed: controls, soft hyphen, zero-width and direction marks, invisible operators and fillers, variation
# selectors, tags, the byte order mark, private use (nobody else knows what it means), noncharacters. With the
# zero-width joiner gone, a family emoji falls into its members: three good emoji.
REMOVED = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff"
)
# White space other than the two frequent ones. All of it becomes a space, "line separators" too: only a line
# feed ends a line.
BLANKS = "\t\x0b\x0c\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f"
SPACE = "[ \u3000]"

MARKS = "。｡！？!?‼⁇⁈⁉❗❓❕❔．♪♡♥"  # a run of these stays together
ELLIPSIS = "…‥"
DASHES = "―—─–"
LATIN = "A-Za-zＡ-Ｚａ-ｚ"
DIGIT = "0-9０-９"
HAN = "々〇〻\u3400-\u9fff\uf900-\ufaff"
KATAKANA = "ァ-ヺー"
EMOJI = "☀-☃☆☺☻♨♩♫♬✌✨❣❤\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff"

# --- brackets -----------------------------------------------------------------------------------------------

ANY = re.escape(OPENERS + CLOSERS)
TEXT = f"[^\n{ANY}{REMOVED}{BLANKS}]*+"


def _paired(inside):
    return "(?:" + "|".join(f"[{p[: len(p) // 2]}]{inside}[{p[len(p) // 2 :]}]" for p in PAIRS) + ")"


def _nested(text):
    """Properly paired brackets, up to two deep."""
    return _paired(f"{text}(?>{_paired(text)}{text})*+")


TAME = re.compile(f"(?>[^{ANY}{REMOVED}{BLANKS}]++|{_nested(TEXT)})*+")
BRACKET = re.compile(f"[{ANY}]")
REMOVED_RUN = re.compile(f"[{REMOVED}]+")
HIGH_RUN = re.compile("[\U000e0000-\U0010ffff]+")  # tags, more variation selectors, private use
BLANK_RUN = re.compile(f"[{BLANKS}]")


def tame(text):
    """Rewrite the lines that `SENTENCE` could not handle, the few that TAME cannot run through.

    -> (text, whether it now has stray brackets in it)
    """
    pieces, done, strays = [], 0, False
    at = TAME.match(text).end()
    while at < len(text):
        start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        end = end if end >= 0 else len(text)
        line = BLANK_RUN.sub(" ", REMOVED_RUN.sub("", text[start:end]))
        tamed = mark_strays(line)
        strays = strays or tamed is not line
        pieces += text[done:start], tamed
        done = end
        at = TAME.match(text, end).end()
    if not pieces:
        return text, False
    pieces.append(text[done:])
    return "".join(pieces), strays


def mark_strays(line):
    """Hide every bracket that has no partner in the line, or lies more than two deep, behind its STRAY code.

    A closing bracket pairs with the nearest open one of its kind; what was opened in between never closes.
    """
    odd, stack, waiting = [], [], [0] * len(PAIRS)  # positions to hide; open brackets; how many of each kind
    for found in BRACKET.finditer(line):
        at, char = found.start(), found.group()
        kind = KIND[char]
        if char in OPENERS:
            stack.append((kind, at))
            waiting[kind] += 1
        elif not waiting[kind]:
            odd.append(at)
        else:
            while True:
                opened, position = stack.pop()
                waiting[opened] -= 1
                if opened == kind:
                    break
                odd.append(position)
            if len(stack) >= 2:
                odd += position, at
    odd += (position for _, position in stack)
    # What looked two deep may be less, now that strays do not count: hiding it is harmless, as it is inside.
    if not odd:
        return line
    pieces, done = [], 0
    for at in sorted(odd):
        pieces += line[done:at], line[at].translate(STRAY)
        done = at + 1
    return "".join(pieces) + line[done:]


# --- sentences ----------------------------------------------------------------------------------------------


def _any(*words):
    return "(?:" + "|".join(words) + ")"


def _atomic(*words):
    """The body of a possessive repetition must be atomic itself: Python before 3.11.5 gets it wrong otherwise
    (cpython gh-106052), and later ones do just this."""
    return "(?>" + "|".join(words) + ")"


# と that quotes, not the first letter of a word that begins a sentence
QUOTING = (
    "(?:って|と(?!ころ|ても|にかく|うとう|っさに|っくに|っとと|もかく|もあれ|もだち|もすれば|りあえず|りわけ|たんに|つぜん|んで"
    "|きどき|きおり|きに[、は]|きには|まど|び[あら上出]|ある[日時朝夜晩町村]|なり[のにで]|おく[にのか]|はいえ|ぼとぼ|げとげ|ろとろ|めどなく))"
)

# What carries a sentence on after 「…。」
CARRIES_ON = _any(
    "[、､，,・：:／/→＝=]",
    f"[{MARKS}{STRAY_CLOSERS}]",
    f"[{ELLIPSIS}{DASHES}]*+{QUOTING}",
    "を",
    "の(?!ち[にのは、]|んびり|んき|そのそ|そり|っそり|ろのろ|びのび|どが|どか|どを|このこ|みならず、)",
    "が(?!っくり|っかり|っしり|たがた|たん|らがら|らり|やがや|くん|くがく|ば[とっ]|ちゃ|ん[とば]|さがさ|さごそ)",
    "は(?!い[、。！？!?…ー]|い$|い[とっ]|っと|っき|って|じめ|じま|たして|たと|やく|るか|るばる|ぁ|あ[、。…？！ー]|はは|ははっ"
    "|て[、さな]|らはら|らり|げし|にか|なはだ|らい|んなり|ず[みか])",
    "も(?!う|し(?!ば|き|た|て)|ちろん|っと|っとも|ともと|はや|じもじ|ごもご|ぞもぞ|しゃもしゃ|りもり|やもや|のの|ぐ)",
    "に(?!っこ|っと|こに|こり|こっ|やり|やに|やっ|わか|んまり|ぎや|ぎり|ぎわ|じ[みん]|らみ|らん|げ[るたろよ]|ぶ[くい]|お[いう](?!て))",
    "で(?!も|は|すから|すが|すけど|き|かけ|っか|こぼこ|れでれ)",
    "でも(?:[いよ良構なあ]|「|『|[何誰])",
    "では(?!、|また|ここ|さっそく|まず|次|お[聞伺]|今|この|そ)",
    f"へ(?=[の、とは「『（{HAN}{KATAKANA}])(?!とへと)",
    f"や(?=[、「『（(〈《【“{HAN}{KATAKANA}]|その|これ|それ|この|いろいろ|さまざま|など)",
    "か(?:と(?!い)|ら(?!から|だ|す|くも|りと|っ)|も(?!め)|どうか|のよう|な[。あぁ？]|「|『|、|。|？)",
    "まで|など|なんか(?![、変怪])|なんて(?!こっ|こと)|なぞ|なんぞ|とか|みたい|らしい|っぽ|のみ|だけ(?!ど|れど)|ばかり",
    "な(?:の(?!に、|で、)|ら(?!ん|べ|し)|る(?!ほど|べく|ほ))",
    "だ(?:と|[っつ]た(?!ら)|ろう|そう|って(?=[。！？!?])|なんて|とか|よ|ね|な[あと。]|[。、！？])",
    "じゃ(?:な|ね|あり)",
    "くらい|ぐらい",
    "ほど(?!な|ほ|け)|こそ(?!こ|っ)|さえ(?!ぎ)|しか(?![しもたるり])|すら(?!す|り|っ)|より(?!に|そ|か)",
    "よう(?:な|に|だ|で)",
    "[ねよさなわぞぜ](?=[。！？!?])",
    "等|的な|云々|以外",
)
# … and with a remark in brackets in between, 『待て！』（1950年）は, or at the end, 「…。」（草枕）
CARRIES_ON = _any(f"(?:{SPACE}|[（(][^\n{ANY}]*+[)）])?{CARRIES_ON}", f"[（(][^\n{ANY}{MARKS}]*+[)）]\n")

# What carries it on after a bare mark: nothing that can begin a sentence. モーニング娘。の新曲, 雪山！の表紙
AFTER_STOP = f"[、､，]|[のをは](?=[{HAN}{KATAKANA}])"
AFTER_CALL = (
    f"[、､，を]|[のがはにも](?=[{HAN}{KATAKANA}])|{QUOTING}"
    "|など[のとをがはもで、]|なんて(?=[言い思聞])|かと(?=[言い思])"
)

LAUGH = f"{SPACE}?[（(](?:[笑泣汗涙爆怒驚照嬉喜悲恥謎]|[苦爆失大微冷]笑|[大滝冷]汗|号泣|涙目|照れ|拍手|笑い)[)）]"
FACE = r"[（(](?![a-zA-Z]++[)）])[\^＾><＞＜;；:'`´T_oOx×・。゜゚°∀ωд▽∇≧≦￣ー\-－=＝*＊σΦ◎…‥♪☆ﾟ]{2,12}[)）][ﾉノb]?"
ADORNMENT = _atomic(
    LAUGH,
    FACE,
    f"[{EMOJI}]++",
    f"[wｗ]++(?![{LATIN}{DIGIT}.])",
    f"[{ELLIPSIS}]++(?=\n|\\Z|[{STRAY_CLOSERS}])",
)
LOOSE_CLOSERS = f"[{STRAY_CLOSERS}］〕｝”’〟]"

# Marks that end nothing. ! and ? between ASCII characters: code or an address.
CODE = (
    f"(?<=[!-~])[!?]++(?=[0-9A-Za-z=/&%#_.~+$@-])|!(?==)"
    f"|(?<=[a-z_])[!?](?= ?[をがはのにもでと][{HAN}{KATAKANA}{LATIN}、])"
    f"|(?<=Yahoo)[!！](?= ?[{HAN}{KATAKANA}{LATIN}をがはのにもで])"
)
# ． in ３．１４, U．S．A．, Ｊ．Ｓ．バッハ or the １． of a list.
POINT = (
    f"(?<=[{LATIN}{DIGIT}])．(?=[{LATIN}{DIGIT}])|(?<![{LATIN}][{LATIN}])(?<=[{LATIN}])．(?!\n)"
    f"|(?<=^[{DIGIT}])．|(?<=^[{DIGIT}]{{2}})．"
)
# ♪ in other than Japanese company.
TUNE = '(?<![^ -~\u3000♪♡♥\n])[♪♡♥]|[♪♡♥]++(?= ?["-~])'
SILENT = f"{CODE}|{POINT}|{TUNE}"

# In tame text brackets pair, so which closes which need not be asked.
INNER = f"[^\n{ANY}]*+"
PAIR = f"[{OPENERS}]{INNER}(?>[{OPENERS}]{INNER}[{CLOSERS}]{INNER})*+[{CLOSERS}]"
SHUT = f"[{CLOSERS}{STRAY_CLOSERS}]"
ENDED_INSIDE = _any(  # a mark, perhaps something after it, and up to three brackets that close
    *(f"(?<=[{MARKS}]{shut})" for shut in (SHUT, SHUT * 2, SHUT * 3)),
    *(f"(?<=[{MARKS}]{tail}{SHUT})" for tail in (f"[{ELLIPSIS}{EMOJI}]", f"[{ELLIPSIS}]" * 2)),
    *(f"(?<=[{MARKS}][（(]{laugh}[)）]{SHUT})" for laugh in (".", ".笑")),
)
# No sentences: the doubt in 天才（？）, the title in 映画『君の名は。』主題歌
LABEL = f"[（(][{MARKS}]++[)）]|(?<=[{HAN}{KATAKANA}])『[^\n{ANY}]*+』(?=[{HAN}{KATAKANA}{DIGIT}])"

CALL = "[！？!?‼⁇⁈⁉❗❓❕❔♪♡♥]"
GOES_ON = _any(  # after a run of marks; whatever calls or asks may be quoted without brackets: 産業は？と問われれば
    f"(?<={CALL})(?={AFTER_CALL})",
    f"(?<!{CALL})(?={AFTER_STOP})",
    f"(?={ADORNMENT}*+{LOOSE_CLOSERS}++{CARRIES_ON})",
)

# Short cuts, for speed only: where nothing remarkable follows, the common cases need none of the questions above.
EVENTFUL = f"{MARKS}{STRAY_CLOSERS}］〕｝”’〟、､，をのは（( \u3000wｗ{ELLIPSIS}{EMOJI}"
PLAIN_END = f"。(?![{EVENTFUL}])"
PLAIN_PAIR = f"(?<=[^{EVENTFUL}{ANY}][{CLOSERS}])"


def _sentence(plain_end=PLAIN_END, plain_pair=PLAIN_PAIR):
    """The expression for a sentence and the blanks after it, or for the nothing of an empty line.

    First all that ends no sentence; so whatever mark or bracket comes next does.
    """
    goes_on = _any(
        LABEL,
        PAIR + _any(plain_pair, f"(?!{ENDED_INSIDE})", f"(?={CARRIES_ON})"),
        f"(?=[!?！．♪♡♥])(?:{SILENT})",
        f"[{MARKS}]++{GOES_ON}",
    )
    end = _any(f"[{MARKS}]++{ADORNMENT}*+(?>{LOOSE_CLOSERS}++{ADORNMENT}*+)?+", f"{PAIR}{ADORNMENT}*+")
    body = f"(?>[^\n{ANY}{MARKS}]++|(?!{plain_end}){goes_on})*+"
    return re.compile(f"(?=[^\n]){body}(?>{plain_end}|{end}{SPACE}*+)?+|(?<=\n)(?=\n)", re.MULTILINE)


SENTENCE = _sentence()


# --- blocks -------------------------------------------------------------------------------------------------

# The frequent characters that NFKC changes, done for a whole block: str.replace hardly costs anything, a line
# that unicodedata must normalize costs ten times its share.
FREQUENT = "\u3000！（），．／０１２３４５６７８９：？～…‥"
FREQUENT = [(c, unicodedata.normalize("NFKC", c)) for c in FREQUENT]
WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


def normalize(text):
    """NFKC line by line, runs of spaces to one. The lines have no spaces at their ends, and get none."""
    for wide, narrow in FREQUENT:
        text = text.replace(wide, narrow)
    if not unicodedata.is_normalized("NFKC", text):
        lines = text.split("\n")
        for i, done in enumerate(map(unicodedata.is_normalized, repeat("NFKC"), lines)):
            if not done:
                lines[i] = unicodedata.normalize("NFKC", lines[i].translate(WIDE)).strip()
        text = "\n".join(lines)
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def split(text):
    """Paragraphs, a line each -> sentences, a line each; empty lines stay.

    >>> split("「行こう。」と言った。雨だ！\\n\\n…３．１４（笑）。")
    '「行こう。」と言った。\\n雨だ!\\n\\n...3.14(笑)。\\n'
    """
    text, strays = tame(f"\n{text}" if text.endswith("\n") else f"\n{text}\n")
    text = "\n".join([*map(str.strip, SENTENCE.findall(text)), ""])
    if strays:
        for stray, bracket in UNSTRAY:
            text = text.replace(stray, bracket)
    return normalize(text)


def split_block(data):
    """A block of whole lines, bytes -> (sentences, bytes; (bytes and lines in, sentences out, invalid bytes)).

    Empty lines stay where they are, one for any number of them.
    """
    text, invalid = decode(data)
    if b"\xf3" in data or b"\xf4" in data:  # rare, and a class reaching beyond U+FFFF would halve the speed of TAME
        text = HIGH_RUN.sub("", text)
    lines_in = text.count("\n") + (not text.endswith("\n"))
    text = squeeze(split(text))
    return text.encode(), (len(data), lines_in, count_lines(text), invalid)
