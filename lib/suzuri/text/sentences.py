"""Cleaning and splitting of Japanese text: a block of paragraphs in, one sentence a line out.

The rules are those of the README's section on sentences. Everything works on a block of lines at once
and leaves the loops over characters to NumPy and to str methods:

1. decode, invalid bytes become U+FFFD and are counted; remove what is invisible
2. `Scan` finds the characters that matter, and which brackets are pairs; those without a partner are ordinary
3. `sentence_ends`, on the text as written: NFKC would make … of ... and ． of .  Most marks end a sentence without a
   doubt, 。 before an ordinary character or at the end of a line; the others are put to an expression, DOUBT
4. NFKC, white space, blank lines
"""

import re
import unicodedata
from functools import cache
from itertools import repeat

import numpy as np

from suzuri.text.documents import count_lines, decode, squeeze

# --- characters ---------------------------------------------------------------------------------------------

# Full and half width are the same kind: （笑) is a pair.
PAIRS = ["「｢」｣", "『』", "（()）", "【】", "〈〉", "《》"]
OPENERS = "「｢『（(【〈《"
CLOSERS = "」｣』)）】〉》"
KIND = {c: kind for kind, chars in enumerate(PAIRS) for c in chars}

# Brackets without a partner, while we split: noncharacters, which are removed from the text itself.
STRAY = {ord(c): 0xFDD0 + i for i, c in enumerate(OPENERS + CLOSERS)}
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
REMOVED_RUN = re.compile(f"[{REMOVED}]+")
HIGH_RUN = re.compile("[\U000e0000-\U0010ffff]+")  # tags, more variation selectors, private use
BLANK = re.compile(f"[{BLANKS}]")


def find_strays(noted, kinds):
    """Of the brackets of some lines: the indices, ascending, of those without a partner or more than two deep.

    noted: the bits of each bracket, and of the LINE_END before each line; kinds: of the brackets. A closing bracket
    pairs with the nearest open one of its kind; what was opened in between never closes.
    """
    strays, stack, waiting = [], [], None  # waiting: how many of each kind are open
    for i, (what, kind) in enumerate(zip(noted, kinds, strict=True)):
        if what & LINE_END:
            strays += stack
            stack, waiting = [], [0] * len(PAIRS)
        elif what & OPENER:
            stack.append(i)
            waiting[kind] += 1
        elif not waiting[kind]:
            strays.append(i)
        else:
            while kinds[opened := stack.pop()] != kind:
                waiting[kinds[opened]] -= 1
                strays.append(opened)
            waiting[kind] -= 1
            if len(stack) >= 2:
                strays += opened, i
    # What looked two deep may be less, now that strays do not count: hiding it is harmless, as it is inside.
    return sorted(strays + stack)


def hide(text, strays):
    """The text with the brackets at these places behind their STRAY codes."""
    pieces, done = [], 0
    for place in strays:
        pieces += text[done:place], text[place].translate(STRAY)
        done = place + 1
    return "".join([*pieces, text[done:]])


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

# With the strays hidden, brackets pair: which closes which need not be asked.
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

# The item at a mark outside brackets, or the pair at a bracket: one that ends nothing, or else `end` and the blanks
# after it.
DOUBT = re.compile(
    _any(LABEL, PAIR + _any(f"(?!{ENDED_INSIDE})", f"(?={CARRIES_ON})"), SILENT, f"[{MARKS}]++{GOES_ON}")
    + f"|(?P<end>(?>[{MARKS}]++{ADORNMENT}*+(?>{LOOSE_CLOSERS}++{ADORNMENT}*+)?+|{PAIR}{ADORNMENT}*+){SPACE}*+)",
    re.MULTILINE,
)


# --- scanning -----------------------------------------------------------------------------------------------

# What a character is, a bit each. A mark or a closing bracket with something REMARKABLE at its side is in doubt.
LINE_END, OPENER, CLOSER, MARK, UNTAMED, REMARKABLE, COMPATIBLE = (1 << bit for bit in range(7))
NOTED = LINE_END | OPENER | CLOSER | MARK | UNTAMED


@cache
def character_bits():
    """The bits of each character: uint8 [0x10001], the last for all beyond the BMP."""
    classes = {
        LINE_END: "\n",
        OPENER: OPENERS,
        CLOSER: CLOSERS,
        MARK: MARKS,
        UNTAMED: REMOVED + BLANKS,
        REMARKABLE: f"{OPENERS}{CLOSERS}{MARKS}{STRAY_CLOSERS}］〕｝”’〟、､，をのは \u3000wｗ{ELLIPSIS}{EMOJI}",
    }
    bits, bmp = np.zeros(0x10001, np.uint8), "".join(map(chr, range(0x10000)))
    for bit, chars in classes.items():
        bits[[found.start() for found in re.finditer(f"[{chars}]", bmp)]] |= bit
    bits[:-1][[not unicodedata.is_normalized("NFKC", char) for char in bmp]] |= COMPATIBLE
    bits[-1] = REMARKABLE
    return bits


@cache
def bracket_kinds():
    """The kind of each bracket: uint8 [0x10000]."""
    kinds = np.zeros(0x10000, np.uint8)
    for char, kind in KIND.items():
        kinds[ord(char)] = kind
    return kinds


@cache
def compatible_codes():
    """The NFKC of each character of which it is one character; the character itself where it is several.

    uint32 [0x10000]
    """
    codes = np.arange(0x10000, dtype=np.uint32)
    for code in np.flatnonzero(character_bits()[:-1] & COMPATIBLE).tolist():
        if len(char := unicodedata.normalize("NFKC", chr(code))) == 1:
            codes[code] = ord(char)
    return codes


class Scan:
    """What a text that begins and ends with a line feed consists of.

    codes: uint32 [characters]; bits: uint8 [characters]. Of the NOTED characters: places, at, int64 [n], and bits,
    noted, uint8 [n]; the number of brackets that are open in their line after each, depth, int64 [n]; outer: int64
    [pairs, 2], which of them are the outer brackets. strays: places, ascending, of the brackets without a partner.
    """

    def __init__(self, text):
        self.codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        self.bits = character_bits().take(self.codes, mode="clip")
        self.at = np.flatnonzero(self.bits & NOTED != 0)
        self.noted = self.bits[self.at]
        self.untamed = bool((self.noted & UNTAMED).any())
        self.line = np.cumsum(self.noted == LINE_END) - 1
        self.strays = []
        wild = self.pair()
        if wild.any():
            self.hide_strays(np.flatnonzero(wild[self.line] & (self.noted & (LINE_END | OPENER | CLOSER) != 0)))
            self.pair()

    def pair(self):
        """Set depth and outer; -> the lines in which something is not properly paired, bool [lines + 1]."""
        feeds = np.flatnonzero(self.noted == LINE_END)
        steps = (self.noted & OPENER != 0).astype(np.int64) - (self.noted & CLOSER != 0)
        total = np.cumsum(steps)
        self.depth = total - total[feeds][self.line]
        wild = np.zeros(len(feeds), bool)
        wild[:-1] = total[feeds[1:]] != total[feeds[:-1]]
        wild[self.line[(self.depth < 0) | (self.depth > 2)]] = True
        brackets = np.flatnonzero((steps != 0) & ~wild[self.line])
        level = self.depth[brackets] + (steps[brackets] < 0)
        for deep in 2, 1:
            self.outer = brackets[level == deep].reshape(-1, 2)  # they alternate: opener, closer
            kinds = bracket_kinds()[self.codes[self.at[self.outer]]]
            wild[self.line[self.outer[kinds[:, 0] != kinds[:, 1], 0]]] = True
        return wild

    def hide_strays(self, some):
        """Make the stray brackets among the noted characters `some` ordinary characters."""
        kinds = bracket_kinds().take(self.codes[self.at[some]], mode="clip")
        strays = some[find_strays(self.noted[some].tolist(), kinds.tolist())]
        places = self.at[strays]
        self.bits[places] = (self.bits[places] & COMPATIBLE) | np.where(self.noted[strays] & CLOSER, REMARKABLE, 0)
        self.noted[strays] = 0
        self.strays = places.tolist()

    def sentence_ends(self, text):
        """Where sentences end, the line feeds apart: sorted places in the text, whose strays must be hidden."""
        at, bits = self.at, self.bits
        marks = at[(self.noted & MARK != 0) & (self.depth == 0)]
        marks = marks[bits[marks + 1] != LINE_END]
        plain = (self.codes[marks] == ord("。")) & (bits[marks + 1] & REMARKABLE == 0) & (bits[marks - 1] & MARK == 0)
        opened, closed = at[self.outer].T
        pairs = opened[(bits[closed - 1] & REMARKABLE != 0) & (bits[closed + 1] != LINE_END)]
        ends, done = (marks[plain] + 1).tolist(), 0
        for place in np.sort(np.concatenate([marks[~plain], pairs])).tolist():
            if place >= done:
                found = DOUBT.match(text, place)
                done = found.end()
                if found["end"] is not None and text[done] != "\n":
                    ends.append(done)
        return sorted(ends)

    def normalized(self, ends):
        """The text with a line feed at each of the `ends`, in NFKC."""
        codes = self.codes.copy()
        places = np.flatnonzero(self.bits & COMPATIBLE != 0)
        codes[places] = compatible_codes()[codes[places]]
        text = np.insert(codes, ends, ord("\n")).tobytes().decode("utf-32-le")
        left = codes[places]
        for char in map(chr, set(left[character_bits()[left] & COMPATIBLE != 0].tolist())):
            text = text.replace(char, unicodedata.normalize("NFKC", char))
        if not unicodedata.is_normalized("NFKC", text):  # what composes with its neighbours, or lies beyond the BMP
            lines = text.split("\n")
            for i, done in enumerate(map(unicodedata.is_normalized, repeat("NFKC"), lines)):
                if not done:
                    lines[i] = unicodedata.normalize("NFKC", lines[i])
            text = "\n".join(lines)
        return text


# --- blocks -------------------------------------------------------------------------------------------------


def trim(text):
    """Runs of spaces to one, none at the start or the end of a line."""
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(" \n", "\n").replace("\n ", "\n")


def split(text):
    """Paragraphs, a line each -> sentences, a line each; empty lines stay.

    >>> split("「行こう。」と言った。雨だ！\\n\\n…３．１４（笑）。")
    '「行こう。」と言った。\\n雨だ!\\n\\n...3.14(笑)。\\n'
    """
    scan = Scan(text := f"\n{text}" if text.endswith("\n") else f"\n{text}\n")
    if scan.untamed:
        scan = Scan(text := BLANK.sub(" ", REMOVED_RUN.sub("", text)))
    if scan.strays:
        text = hide(text, scan.strays)
    return trim(scan.normalized(scan.sentence_ends(text)))[1:]


def split_block(data):
    """A block of whole lines, bytes -> (sentences, bytes; (bytes and lines in, sentences out, invalid bytes)).

    Empty lines stay where they are, one for any number of them.
    """
    text, invalid = decode(data)
    if b"\xf3" in data or b"\xf4" in data:
        text = HIGH_RUN.sub("", text)
    lines_in = text.count("\n") + (not text.endswith("\n"))
    text = squeeze(split(text))
    return text.encode(), (len(data), lines_in, count_lines(text), invalid)
