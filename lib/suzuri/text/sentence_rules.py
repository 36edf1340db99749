"""Rules that say where a Japanese sentence ends, each alternative with an example beside it.

A sentence ends, outside brackets, with 。 ！ ？ or ．, with ♪ or ♡ between Japanese characters, or with a bracket
that closes after such a mark, 「…。」. A run such as ！？ and a laugh （笑） stay with it. It does not end inside
brackets, in URLs and numbers, at … alone, or where a particle continues it: 「…。」と言った stays whole. A bracket
without a partner in its line is an ordinary character.

All of this is decided on the text as it was written, before NFKC, which turns … into ... and ． into a full stop.
What depends on more than its neighbours is decided before (`sentences`) and then hidden from the patterns: brackets
without a partner, quotation marks that open, and, after a bare ！ or ？, the と of a word such as とても. MeCab knows
those words. After a closing bracket, where と nearly always quotes, only the words listed here begin a sentence.

Most marks clearly end a sentence: `sentences` sees that from the characters beside them. The others are matched with
DOUBT, which is built from the tables below. A row is a Rule: a regular expression, and examples in which | is where a
sentence ends. A test splits each example with and without its rule: the results must differ.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from suzuri.text.characters import HAN, KATAKANA, SPACE

# --- characters ---------------------------------------------------------------------------------------------

# Full and half width are the same kind: （笑) is a pair.
PAIRS = ["「｢」｣", "『』", "（()）", "【】", "〈〉", "《》"]
OPENERS = "「｢『（(【〈《"
CLOSERS = "」｣』)）】〉》"
BRACKETS = re.escape(OPENERS + CLOSERS)
KIND = {c: kind for kind, chars in enumerate(PAIRS) for c in chars}

# Quotation marks that open as well as close, and the same with those that only open.
QUOTES = "\"＂'＇”’"
QUOTE_KIND = {c: kind for kind, chars in enumerate(['"＂', "'＇", "“„‟”", "‘‚‛’"]) for c in chars}

# What replaces hidden characters while a text is split: noncharacters, which the text itself cannot hold.
HIDDEN = {ord(c): 0xFDD0 + i for i, c in enumerate(OPENERS + CLOSERS + QUOTES + "と")}
STRAY_CLOSERS = "".join(chr(HIDDEN[ord(c)]) for c in CLOSERS)
# Closing marks that are not paired: with CLOSERS and QUOTES what UAX #29 calls Close and does not open, and ≫.
LOOSE = "]}］｝≫»›❜❞〕〗〙〛〞〟｠༻༽᚜⁆⁾₎⌉⌋❩❫❭❯❱❳❵⟆⟧⟩⟫⟭⟯⦄⦆⦈⦊⦌⦎⦐⦒⦔⦖⦘⧙⧛⧽⸃⸅⸊⸍⸝⸡⸣⸥⸧⸩⹖⹘⹚⹜﴾"

MARKS = "。｡！？!?‼⁇⁈⁉❗❓❕❔．♪♡♥"  # a run of these stays together
CALL = "[！？!?‼⁇⁈⁉❗❓❕❔♪♡♥]"
BLANK = f"[{SPACE}]"
ELLIPSIS = "…‥."  # which NFKC makes a run of points
DASHES = "―—─–"
LATIN = "A-Za-zＡ-Ｚａ-ｚ"
DIGIT = "0-9０-９"
RUN = f"[{MARKS}](?>[{MARKS}]|\\.(?![.{LATIN}]))*+"  # perhaps with a point that has been ．
NUMERALS = "〇一二三四五六七八九"
NOUN = f"{HAN}{KATAKANA}ー"  # what a noun begins with; hiragana may be the first word of a sentence
STARS = "☆★"
BULLETS = "☆👉\U0001f518\U0001f532-\U0001f53d\U0001f7e0-\U0001f7eb"  # emoji that begin an item
EMOJI = "☀-☃☆☺☻♨♩♫♬✌✨❣❤\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff"

# With the strays hidden all brackets are in pairs: patterns need not check which bracket closes which.
INNER = f"[^\n{BRACKETS}]*+"
PAIR = f"[{OPENERS}]{INNER}(?>[{OPENERS}]{INNER}[{CLOSERS}]{INNER})*+[{CLOSERS}]"
SPEECHES = f"(?>(?=[「『]){PAIR}){{1,4}}"
SHUT = f"[{CLOSERS}{STRAY_CLOSERS}]"
LOOSE_CLOSERS = f"[{STRAY_CLOSERS}{re.escape(LOOSE + QUOTES)}]"

# Up to the end of a line these are not a sentence of their own. A few runs of them: NFKC makes some characters several.
TRAILERS = f"(?>[{MARKS}]++|[{ELLIPSIS}]++|[{EMOJI}{STARS}wｗ{LOOSE_CLOSERS[1:-1]}]++){{1,16}}+"


# --- tables -------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """An alternative: a pattern, examples of its effect, and the rules that it gives way to."""

    pattern: str
    examples: tuple[str, ...]
    unless: tuple["Rule", ...] = ()


def rule(pattern: str, *examples: str, unless: Iterable[Rule] = ()) -> Rule:
    """A shorter way to write a Rule."""
    return Rule(pattern, examples, tuple(unless))


def words(listed: str, *templates: str) -> tuple[Rule, ...]:
    """A rule for each word. Its examples are the templates, with the word in the place of {}.

    >>> words("のち[にの]", "|{}") == (rule("のちに", "|のちに"), rule("のちの", "|のちの"))
    True
    """
    found = []
    for shortened in listed.split(" "):
        head, several, tail = re.fullmatch(r"([^\[]*)(?:\[(.+)\])?(.*)", shortened, re.DOTALL).groups()
        for char in several or [""]:
            word = head + char + tail
            found.append(rule(re.escape(word), *(template.format(word) for template in templates)))
    return tuple(found)


def expression(rule: Rule) -> str:
    """The regular expression of a rule."""
    return f"(?!{'|'.join(map(expression, rule.unless))}){rule.pattern}" if rule.unless else rule.pattern


def any_of(rules: Iterable[Rule]) -> str:
    """The regular expression of a table."""
    return f"(?:{'|'.join(map(expression, rules))})"


def atomic(rules: Iterable[Rule]) -> str:
    """The regular expression of a table, to be repeated possessively.

    Python before 3.11.5 (Debian 12 has 3.11.2) mismatches `(?:…)*+` where … can backtrack (cpython gh-106052);
    `(?>…)*+` means the same and is right everywhere.
    """
    return f"(?>{'|'.join(map(expression, rules))})"


# --- what continues a sentence -------------------------------------------------------------------------------


def unless(listed: str) -> tuple[Rule, ...]:
    """Words that begin a sentence after 「…。」 although they begin like a particle."""
    return words(listed, "「行く。」|{}")


QUOTING = [
    rule("って", "えっ！って思う", "「行く。」って言う"),
    rule(
        "と",
        "産業は？と問われれば",
        "「行く。」と言った",
        unless=words(
            "ところ とことん とどのつまり とても とって[もお] とっさに とっくに とっとと とにかく とうとう とくに"
            " とくべつ とびきり とびっきり とび[あら上出] とおり[がす] とおく[にのか] ともに ともかく ともあれ ともだち"
            " ともすれば とりあえず とりわけ とたんに とつぜん とんで ときどき ときおり ときに[、は] とまど"
            " とある[日時朝夜晩町村店所男女] となり[のにで] とはいえ とぼとぼ とげとげ とろとろ とめどなく",
            "「行く。」|{}",
            "行く？|{}",
        ),
    ),
]

AFTER_BRACKET = [
    *words("[、､，,：:／/→＝=]", "「行く。」{}来る"),
    rule("・[「『]", "「行く！」・「来る！」", "『行く！』・『来る！』"),
    # after a title or a slogan; other nouns may begin a sentence: 「行くぞ！」太郎は言った
    *words(
        "コーナー キャンペーン シリーズ プロジェクト ツアー フェア ブーム コール ポーズ 主題歌 関連 論争 作戦 宣言"
        " 発言 騒動 現象 計画 構想 主義 篇",
        "「行く！」{}を見る",
    ),
    rule("編", "『行く！』編を見る", unless=unless("編[集み]")),
    rule("号", "『行く！』号に乗る", unless=unless("号[泣令]")),
    rule("版", "『行く！』版を見る", unless=unless("版画")),
    rule("展", "『行く！』展を見る", unless=unless("展[示開望]")),
    rule("運動", "「行く！」運動が始まる", unless=unless("運動[会着靴場]")),
    rule("精神", "「行く！」精神で進む", unless=unless("精神[科病]")),
    rule(f"第[{DIGIT}{NUMERALS}]++[話回巻部章集弾期作幕夜]", "『行く！』第５話を見る", "『行く！』第五話を見る"),
    rule(f"[{MARKS}{STRAY_CLOSERS}]", "「行く。」。", "「来る！」？", "「行く。」』と。"),
    rule(r"\.(?!\.)", "「行く。」.それ"),
    rule(f"[{ELLIPSIS}{DASHES}]*+{any_of(QUOTING)}", "「行く。」――と言った", "「行く。」……って"),
    rule("を", "「行く。」を読む"),
    rule(
        "の",
        "「行く。」の一言",
        unless=unless(
            "のち[にのは、] のんびり のんき のそのそ のそり のっそり のろのろ のびのび のどが のどか のどを のこのこ"
        ),
    ),
    rule(
        "が",
        "「行く。」が口癖だ",
        unless=unless(
            "がっくり がっかり がっしり がたがた がたん がらがら がらり がやがや がくん がくがく がば[とっ] がちゃ"
            " がん[とば] がさがさ がさごそ"
        ),
    ),
    rule(
        "は",
        "「行く。」は嘘だ",
        unless=unless(
            "はい[、。！？!?…ー\nとっ] はっと はっき はって はじめ はじま はたして はたと はやく はるか はるばる"
            " はぁ はあ[、。…？！ー] ははは はて[、さな] はらはら はらり はげし はにか はなはだ はらい はんなり"
            " はず[みか]"
        ),
    ),
    rule(
        "も",
        "「行く。」も嘘だ",
        unless=unless(
            "もう もし もちろん もっと もともと もはや もじもじ もごもご もぞもぞ もりもり もやもや ものの もぐ"
        ),
    ),
    rule("もし[ばきたて]", "「行く。」もしばらく", "「行く。」もしきりに", "「行く。」もした", "「行く。」もして"),
    rule(
        "に",
        "「行く。」に泣く",
        unless=unless(
            "にっこ にっと にこに にこり にこっ にやり にやに にやっ にわか にんまり にぎや にぎり にぎわ"
            " にじ[みん] にらみ にらん にげ[るたろよ] にぶ[くい] にお[いう]"
        ),
    ),
    rule("にお[いう]て", "「行く。」において", "「行く。」におうて"),
    rule(
        "で",
        "「行く。」で始まる",
        unless=[
            *unless("でも ですから ですが ですけど でき でかけ でっか でこぼこ でれでれ"),
            rule("では", "「行く。」|では、また"),
        ],
    ),
    *words("でも[いよ良構なあ何誰]", "「行く。」{}"),
    rule("でも[「『]", "「行く。」でも「来る。」でもない", "「行く。」でも『来る。』でもない"),
    rule(
        "では",
        "「行く。」では困る",
        unless=unless("では、 ではまた ではここ ではさっそく ではまず では次 ではお[聞伺] では今 ではこの ではそ"),
    ),
    rule(f"へ[の、とは「『（{NOUN}]", "「行く。」への道", "「行く。」へ返す", unless=unless("へとへと")),
    rule(f"や[、「『（(〈《【“{NOUN}]", "「行く。」や「来い。」", "「行く。」や詩"),
    *words("やその やこれ やそれ やこの やいろいろ やさまざま やなど", "「行く。」{}"),
    rule("かと", "「行く。」かと思った", unless=unless("かとい")),
    rule("から", "「行く。」から始まる", unless=unless("からから からだ からす からくも からりと からっ")),
    rule("かも", "「行く。」かも知れない", unless=unless("かもめ")),
    *words("かどうか かのよう かな[。あぁ？?] か[、。？?]", "「行く。」{}"),
    rule("か[「『]", "「行く。」か「来る。」か、", "「行く。」か『来る。』か、"),
    *words("まで など なぞ なんぞ みたい らしい っぽ ばかり くらい ぐらい 等 的な 云々 以外", "「行く。」{}"),
    rule("なんか", "「行く。」なんか嫌いだ", unless=unless("なんか[、変怪]")),
    rule("なんて", "「行く。」なんて言う", unless=unless("なんてこっ なんてこと")),
    rule("だけ", "「行く。」だけ覚えた", unless=unless("だけど だけれど")),
    rule("なの", "「行く。」なのか", unless=unless("なのに、 なので、")),
    rule("なら", "「行く。」ならいい", unless=unless("ならん ならべ ならし")),
    rule("なる", "「行く。」なる本", unless=unless("なるべく なるほ")),
    *words("だと だろう だそう だなんて だよ だね だな[あと。] だ[。、！？!?]", "「行く。」{}"),
    *words("だって[。！？!?]", "「行く。」{}"),
    rule("だ[っつ]た", "「行く。」だった", "「行く。」だつた", unless=unless("だ[っつ]たら")),
    *words("じゃな じゃね じゃあり", "「行く。」{}"),
    rule("ほど", "「行く。」ほどの覚悟", unless=unless("ほどな ほどほ ほどけ")),
    rule("こそ", "「行く。」こそ真実だ", unless=unless("こそこ こそっ")),
    rule("さえ", "「行く。」さえ言えない", unless=unless("さえぎ")),
    rule("しか", "「行く。」しか言わない", unless=unless("しか[しもたるり]")),
    rule("すら", "「行く。」すら言えない", unless=unless("すらす すらり すらっ")),
    rule("より", "「行く。」より「来る。」", unless=unless("よりに よりそ よりか")),
    *words("ような ように ようだ ようで", "「行く。」{}"),
    rule("[ねよさなわぞぜ][。！？!?]", "「行く。」ね。", "「行く。」さ！", "「行く。」ぞ？"),
]

# Between bracket and particle: a blank, or a remark in brackets.
REMARK = f"[（(][^\n{BRACKETS}]*+[)）]"
BETWEEN = [rule(BLANK, "「行く。」 と言った"), rule(REMARK, "『待て！』（1950年）は名作だ")]

# What follows the last of some 「…」 in a row if all are parts of one sentence: と and って quote only the last one.
LISTING = any_of(rule for rule in AFTER_BRACKET if rule.pattern in [*"をのがはもにで"])

CARRIES_ON = [
    rule(f"{any_of(BETWEEN)}?{any_of(AFTER_BRACKET)}", "「行く。」と言った"),
    rule(f"[（(][^\n{BRACKETS}{MARKS}]*+[)）]\n", "「山は良い。」（草枕）"),
]

# After a bare mark: nothing that can begin a sentence.
AFTER_STOP = [
    rule("(?<=[娘女]。)[、､，,]", "モーニング娘。、雨", "乙女。，雨"),
    rule(f"[のをは](?=[{NOUN}])", "モーニング娘。の新曲", "モーニング娘。を歌う", "モーニング娘。は歌う"),
]
AFTER_CALL = [  # exclamations and questions may be quoted without brackets: 産業は？と問われれば
    *words("[、､，,を]", "雪山！{}雨"),
    rule(f"[のがはにも](?=[{NOUN}])", *(f"雪山！{particle}表紙" for particle in "のがはにも")),
    rule(
        any_of(QUOTING),
        "産業は？と問われれば",
        unless=words(
            "ってこと[はでだ] ってわけ ってか ってい[うえ] ってゆ とはいう とはいっ とは言[えっ] といっても、"
            " ということ[はでも]、 というわけで、 というか、 というより、 というのも、 とする[とな] とすれば、"
            " となる[とな] となれば、 と同時に、",
            "行く？|{}",
        ),
    ),
    *words("など[のとをがはもで、]", "雪山？{}"),
    *words("なんて[言い思聞]", "雪山？{}"),
    *words("かと[言思]", "雪山？{}"),
    rule("かとい", "雪山？かという", unless=words("かといって", "行く？|{}")),
]


# --- what stays with a sentence that has ended --------------------------------------------------------------

LAUGHS = words(
    "[笑泣汗涙爆怒驚照嬉喜悲恥謎] [苦爆失大微冷]笑 [大滝冷]汗 号泣 涙目 照れ 拍手 笑い",
    "もう！（{}）|次。",
    "もう。 ({})|次。",
)
ADORNMENTS = [
    rule(f"{BLANK}?[（(]{any_of(LAUGHS)}[)）]", "面白い（笑）。|楽しい！（笑）|次"),
    rule(
        r"[（(][\^＾><＞＜;；:'`´T_oOx×・。゜゚°∀ωд▽∇≧≦￣ー\-－=＝*＊σΦ◎…‥♪☆ﾟ]{2,12}[)）][ﾉノb]?",
        "できた！(^o^)|やった",
        "できた！(≧▽≦)ノ|やった",
        unless=[rule("[（(][a-zA-Z]++[)）]", "できた！|(oxo)やった")],
    ),
    rule(f"(?>(?![{BULLETS}])[{EMOJI}])++", "すごい！😊👍|また来ます"),
    rule(f"[{STARS}]++(?=[\n{STRAY_CLOSERS}])", "「すごい！」☆", "すごい！☆」|次"),
    rule(f"[{STARS}][彡ミ]", "すごい！☆彡|また来ます"),
    rule("[wｗ]++", "まじか！ｗｗｗ|それな！www|次", unless=[rule(f"[wｗ]++[{LATIN}{DIGIT}.]", "見よ！|www.jp")]),
    rule(f"[{ELLIPSIS}]++(?=[\n{STRAY_CLOSERS}])", "「驚いた！」……", "驚いた！…」|次"),
]
ADORNMENT = atomic(ADORNMENTS)


# --- brackets -----------------------------------------------------------------------------------------------

# A mark, perhaps something after it, and up to three brackets that close.
ENDED_INSIDE = [
    rule(f"(?<=[{MARKS}]{SHUT})", "「行く。」|彼は行った"),
    rule(f"(?<=[{MARKS}]{SHUT}{SHUT})", "「『来い。』」|彼は来た"),
    rule(f"(?<=[{MARKS}]{SHUT}{SHUT}{SHUT})", "「『（来い。）』」|彼は来た"),
    rule(f"(?<=[{MARKS}]{LOOSE_CLOSERS}{SHUT})", "「“行く。”」|彼は行った"),
    rule(f"(?<=[{MARKS}][{ELLIPSIS}{EMOJI}{STARS}]{SHUT})", "「えっ！…」|沈黙", "「えっ！😊」|沈黙"),
    rule(f"(?<=[{MARKS}][{ELLIPSIS}][{ELLIPSIS}]{SHUT})", "「えっ！……」|沈黙"),
    rule(f"(?<=[{MARKS}][（(].[)）]{SHUT})", "「面白い！（笑）」|彼女は去った"),
    rule(f"(?<=[{MARKS}][（(].笑[)）]{SHUT})", "「面白い！（爆笑）」|彼女は去った"),
]
PAIR_ENDS_NOTHING = [
    rule(f"(?!{any_of(ENDED_INSIDE)})", "「行く、」彼は言った"),
    rule(f"(?={any_of(CARRIES_ON)})", "「行く。」と言った"),
    rule(f"(?<=[！？!?][」』])(?={SPEECHES}[にを])", "「誰？」「何」に答える"),
    rule(f"(?<=[」』])(?={SPEECHES}(?<=[{MARKS}][」』]){LISTING})", "「誰？」「何？」の声"),
]


# --- items --------------------------------------------------------------------------------------------------

GOES_ON = [  # after a run of marks
    rule(f"(?<={CALL})(?={any_of(AFTER_CALL)})", "産業は？と問われれば"),
    rule(f"(?<!{CALL})(?={any_of(AFTER_STOP)})", "モーニング娘。の新曲"),
    rule(f"(?={ADORNMENT}*+{LOOSE_CLOSERS}++{any_of(CARRIES_ON)})", "終わり。」と言った", "終わり！（笑）”と言った"),
]
ENDS_NOTHING = [
    rule(f"[（(][{MARKS}]++[)）]", "天才（？）少年"),  # the writer's doubt
    rule(f"(?<=[{NOUN}])『[^\n{BRACKETS}]*+』(?=[{NOUN}{DIGIT}])", "映画『君の名は。』公開"),  # a title
    rule(
        f"(?<=[{NOUN}])「[^\n。{BRACKETS}]*+(?<=[！？!?])」(?=[{NOUN}{DIGIT}])",
        "歌番組「歌おう！」出演",
        unless=[rule(f"「[^\n{BRACKETS}]*+」[^\n。、「]{{1,12}}「", "問「行く？」|答「来る」")],
    ),
    rule(f"{PAIR}{any_of(PAIR_ENDS_NOTHING)}", "「行く。」と言った"),
    # ! and ? between ASCII characters: code or an address
    rule("(?<=[!-~\n])[!?]++(?=[0-9A-Za-z=/&%#_.~+$@-])", "https://example.com/?q=a!bを見る"),
    rule("!(?==)", "a != bである"),
    rule(f"(?<=[a-z_])[!?](?= ?[をがはのにもでと][{NOUN}{LATIN}、])", "sort! を呼ぶ", "nil? と、"),
    rule(f"(?<=Yahoo)[!！](?= ?[{NOUN}{LATIN}をがはのにもで])", "Yahoo!ニュース", "Yahoo! JAPAN"),
    # ． in a number or a name, and after the number of a paragraph
    rule(f"(?<=[{LATIN}{DIGIT}])．(?=[{LATIN}{DIGIT}])", "円周率は３．１４だ"),
    rule(f"(?<=[{NUMERALS}])．(?=[{NUMERALS}])", "円周率は三．一四だ"),
    rule(f"(?<=[はがをにのもでとやへ、，：:（(「『～〜~±＋+－−=＝ \u3000])．(?=[{DIGIT}])", "打率は．４６５だ"),
    rule(f"^．(?=[{DIGIT}])", "．４６５を打つ"),
    rule(f"(?<=[{NOUN}])．(?=[{DIGIT}]{{3}}(?![{DIGIT}{HAN}]))", "打率．４６５を記録"),
    rule(f"(?<![{LATIN}][{LATIN}])(?<=[{LATIN}])．(?!\n)", "Ｊ．バッハ"),
    rule(f"(?<=^[{DIGIT}])．", "１．はじめに"),
    rule(f"(?<=^[{DIGIT}]{{2}})．", "１２．おわりに"),
    # ♪ beside characters that are not Japanese
    rule("(?<![^ -~\u3000♪♡♥\n])[♪♡♥]", "♪ラララと歌う"),
    rule('[♪♡♥]++(?= ?["-~])', "また♪ good"),
    rule(
        f"[{MARKS}]++(?={TRAILERS}{ADORNMENT}*+\n)",
        "驚いた！…。",
        "驚いた！☆。",
        "驚いた！……………………。…",
        "驚いた。..（笑）",
    ),
    rule(f"{RUN}{any_of(GOES_ON)}", "産業は？と問われれば"),
]
ENDS = [
    rule(f"{RUN}{ADORNMENT}*+(?>{LOOSE_CLOSERS}++{ADORNMENT}*+)?+", "雨だ！|風だ", "雨だ！」（笑）|風だ"),
    rule(f"{PAIR}{ADORNMENT}*+", "「行く。」|彼は行った", "「行く！」（笑）|彼は行った"),
]

# The item at a mark outside brackets, or the pair at a bracket: one that ends nothing, or else `end` and the blanks
# after it.
DOUBT = re.compile(f"{any_of(ENDS_NOTHING)}|(?P<end>{atomic(ENDS)}{BLANK}*+)", re.MULTILINE)
