"""extract-wiki: broken lines, long lines, any text; every kind of debris in real pages; both layouts of a dump."""

import bz2
import csv
import gzip
import json
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suzuri.text import wiki
from suzuri.text.characters import REMOVED_RUN


def record(n):
    return json.dumps({"namespace": 0, "title": f"頁{n}", "text": f"本文の{n}。"}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "good, broken, status",
    [(3, 1, 0), (3, 2, 1), (998, 1, 0), (997, 3, 1), (2997, 3, 0), (2996, 4, 1), (0, 5, 1)],
)
def test_share_of_broken_lines(run_tool, good, broken, status):
    bad = [b'{"text": "cut', b"[1, 2]", b"\xff", b"12"]
    lines = [bad[i % 4] for i in range(broken)] + [record(n) for n in range(good)]
    done = run_tool("extract-wiki", stdin=b"\n".join(lines), status=status)
    if status:
        assert f"{broken} of {good + broken:,} lines are broken JSON" in done.stderr.decode()
    else:
        assert done.stdout.count(b"\n\n") == max(good - 1, 0)


def test_what_is_not_a_dump_is_refused_early(run_tool):
    done = run_tool("extract-wiki", stdin=b"page\n" * 100_000, status=1)
    assert b"is not a dump of Wikipedia's search index (Cirrus NDJSON" in done.stderr


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (b"", "is empty; it should be a dump of Wikipedia's search index"),
        (b'{"namespace": 1, "text": "x"}\n', "1 lines, but no article in them"),
        (b'{"text": "cut\n', "1 lines, but no article in them"),
        (b'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">\n<page>\n', "is XML or HTML, not a dump"),
        (b"\xef\xbb\xbf  <!DOCTYPE html>\n", "is XML or HTML, not a dump"),
        (b"[\n" + record(1) + b",\n" + record(2) + b"]\n", "is a JSON array, not a dump"),
        (b"[" + record(1) + b"]", "one record per line: jq -c '.[]'"),
        (b'{"_index": "jawiki", "_source": ' + record(1) + b"}\n", "take them out: jq -c ._source"),
        (b"INSERT INTO `page` VALUES (1,0,'x');\n", "is SQL, not a dump"),
    ],
)
def test_what_it_got_is_named(run_tool, lines, what):
    done = run_tool("extract-wiki", stdin=lines, status=1)
    assert what in done.stderr.decode() and done.stderr.count(b"\n") == 1 and done.stdout == b""


def test_an_invalid_byte_does_not_drop_a_record(run_tool):
    done = run_tool("extract-wiki", stdin=record(1).replace("本".encode(), b"\xff") + b"\n" + record(2))
    assert done.stdout.decode() == "\ufffd文の1。\n\n本文の2。\n" and b"1 invalid bytes replaced" in done.stderr


def test_max_documents_reads_no_further(run_tool, bin_dir):
    """`yes` never ends: this returns only because extract-wiki stops reading. The rest may even be broken."""
    lines = b"\n".join(record(n) for n in range(5))
    done = run_tool("extract-wiki", "--max-documents", 3, stdin=lines + b"\nbroken\n" * 10)
    assert done.stdout.decode() == "本文の0。\n\n本文の1。\n\n本文の2。\n"
    endless = 'yes \'{"namespace":0,"text":"永遠に続く。"}\' | "$0" --max-documents 2'
    done = subprocess.run(["bash", "-c", endless, bin_dir / "extract-wiki"], capture_output=True, timeout=300)
    assert done.stdout.decode() == "永遠に続く。\n\n永遠に続く。\n"


def test_a_long_line_without_end(run_tool):
    text = "長い本文。" * 400_000
    done = run_tool("extract-wiki", stdin=json.dumps({"namespace": 0, "title": "長", "text": text}).encode())
    assert done.stdout.decode() == text + "\n"


@given(st.text(), st.text(max_size=5))
def test_cleaning_any_text(text, title):
    out = wiki.clean(text, title)
    assert wiki.clean(out, title) == out or "{{" in text or "[" in text or ">" in text or "^" in text
    assert all(c.isprintable() for c in REMOVED_RUN.findall(out))  # see clean
    assert out == out.strip() and "  " not in out and "\n\n" not in out
    out.encode()


NOTES = "^ 『墨の本』岩波書店、2001年、12頁。 ^ a b “公式サイト”. 2020年4月1日閲覧。"
STUB = "この項目は、石に関連した書きかけの項目です。この項目を加筆・訂正などしてくださる協力者を求めています（P:石）。"


@pytest.mark.parametrize(
    ("text", "want", "headings"),
    [
        # carets
        ("正規表現の ^ 記号は行頭を表す。行末は $ である。 次の段落。", None, []),
        ("正規表現 ^ 記号の例。", None, []),
        ("表の注。 ^ 値は概数である。 ^ a b 推計。 次の段落は文である。その次も文である。", None, []),
        (f"本文。 {NOTES}", "本文。", []),
        (f"記号は ^ である。 {NOTES}", "記号は ^ である。", []),
        (f"本文。 ^ 当時は違った。今は同じである。 {NOTES}", "本文。", []),
        (f"表。 ^ 概数である。 本文である。 {NOTES}", "表。 ^ 概数である。 本文である。", []),
        (f"一覧を次に示す： {NOTES}", "一覧を次に示す：", []),
        ("本文。 ^ " + "説明である。" * 5, None, []),
        ("本文。 ^ " + "説明である。" * 5, "本文。", ["概要", "注釈"]),
        # requests of editors, and what only looks like one
        *(
            (f"硯は石である{mark}。", "硯は石である。", [])
            for mark in [
                "[要出典]",
                "[要出典範囲]",
                "[要検証 – ノート]",
                "[要ページ番号]",
                "[要追加記述]",
                "[要説明]",
                "[要曖昧さ回避]",
                "[要高次出典]",
                "[要文献特定詳細情報]",
                "[要非一次資料]",
                "[要リンク修正]",
                "［要出典］",
                "[信頼性要検証]",
                "[独自研究?]",
                "[中立的な観点?]",
                "[誰?]",
                "[誰によって？]",
                "[いつ?]",
                "[どこ?]",
                "[なぜ?]",
                "[何?]",
                "[英語版]",
                "[リンク切れ]",
                "[疑問点 – ノート]",
                "[出典無効]",
                "[脚注の使い方]",
                "[1]",
                "[注 2]:23",
            ]
        ),
        *(
            (f"値は{text}である。", None, [])
            for text in [
                "array[要素数]",
                "[要約]",
                "[要点]",
                "[要因]",
                "[要求]",
                "[要注意]",
                "a[0]",
                "[要予約]",
                "[本当?]",
                "[日本語版]",
                "[何でも]",
                "[出典]",
                "[誰か]",
                "[要出力]",
            ]
        ),
        # tails; without their headings (as in newer dumps) and with them
        ("硯は石である。 墨 筆 公式サイト", "硯は石である。", ["概要", "関連項目", "外部リンク"]),
        ("硯は石である。 墨 筆 公式サイト", None, ["概要"]),
        ("硯は石である。 墨 筆", None, ["関連項目", "概要"]),
        (
            "硯は石である。 関連項目 墨 - 硯でする。 外部リンク 公式",
            "硯は石である。",
            ["概要", "関連項目", "外部リンク"],
        ),
        (f"石である。 出典 脚注 {NOTES} 参考文献 『硯』2001年。", "石である。", ["出典", "脚注", "参考文献"]),
        (f"出典 を見る。 石である。 出典 {NOTES}", "出典 を見る。 石である。", ["概要", "出典"]),
        (f"石である。 脚注 {NOTES} 関連項目 墨 外部リンク 公式サイト カテゴリ: 文具 | 石", "石である。", []),
        ("石である。 脚注[編集] 注釈 ^ 昔は違った。 出典 ^ 『硯』3頁。", "石である。", []),
        ("石である。 関連項目 は次の章で述べる。それは長い。", None, []),
        ("石である。 外部リンク", "石である。", []),
        (f"石である。 {STUB}", "石である。", []),
        (f"石である。 関連項目 墨 {STUB} カテゴリ: 文具", "石である。", []),
        ("石である。 「https://ja.wikipedia.org/w/index.php?title=硯&oldid=1」から取得 カテゴリ: 石", "石である。", []),
        ("カテゴリ: 石は分類の名である。 石である。", None, []),
    ],
)
def test_what_is_removed_and_what_stays(text, want, headings):
    assert wiki.article({"title": "硯", "text": text, "heading": headings}) == (want or text, None)


def test_strange_headings():
    for headings in (None, "脚注", 3, [None, 3, "脚注"], {"脚注": 1}):
        assert wiki.article({"text": "石である。 脚注 ^ 『硯』。", "heading": headings}) == ("石である。", None)


# Over the real corpus

GONE = {"namespace_nonzero", "no_text_field", "redirect_with_text", "redirect_no_text", "empty_text"}
LEFT_OVER = {  # kind of dirt -> what must not be found in the output of a record that has it
    "ref_marker": r"\[(\d+|注\s?\d+|注釈\s?\d+)\]",
    "citation_needed": r"\[要[^\]]*\]|\[いつ\?\]|\[リンク切れ\]",
    "footnote_tail": r"\s\^\s|閲覧|広辞苑|前掲書",
    "template_debris": r"\{\{|\}\}",
    "navigation_prefix": r"^出典|^\S* > ",
    "zero_width": "[\u200b-\u200f\u2060\ufeff\u00ad]",
}
KEPT = {  # … and what must still be there, for the next tools to handle
    "halfwidth_kana": "[\uff66-\uff9f]",
    "displaystyle_math": r"\{\\displaystyle",
}


@pytest.fixture(scope="module")
def jawiki(shared_data):
    """page_id -> (kind of dirt, record)."""
    with open(shared_data / "jawiki/DOCUMENTS.tsv", encoding="utf-8", newline="") as f:
        dirt = {row["page_id"]: row["dirt"] for row in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)}
    with gzip.open(shared_data / "jawiki/jawiki-20240701-cirrussearch-content.json.gz") as f:
        records = [json.loads(line) for line in f]
    return {str(r["page_id"]): (dirt[str(r["page_id"])], r) for r in records if "page_id" in r}


def test_every_kind_of_dirt(jawiki):
    kinds = {kind for kind, _ in jawiki.values() if kind}
    assert kinds == GONE | set(LEFT_OVER) | set(KEPT), "this test does not know one of the kinds"
    for page, (kind, record) in jawiki.items():
        text, reason = wiki.article(record)
        assert (reason is not None) == (kind in GONE), (page, kind, reason)
        if kind in LEFT_OVER:
            assert re.search(LEFT_OVER[kind], record["text"]), (page, kind)
            assert not re.search(LEFT_OVER[kind], text), (page, kind, text)
        elif kind in KEPT:
            assert re.search(KEPT[kind], text), (page, kind)


def test_clean_pages_stay_as_they_are(jawiki):
    """From text without dirt only marks in brackets are removed, the few that are in the sources themselves."""
    encyclopedic = [r for kind, r in jawiki.values() if not kind and r["category"][:1] == ["WikipediaAnnotatedCorpus"]]
    changed = [r["title"] for r in encyclopedic if wiki.clean(r["text"], r["title"]) != " ".join(r["text"].split())]
    assert len(encyclopedic) > 1500
    assert len(changed) <= 20, changed


def test_both_layouts_give_the_same_documents(run_tool, sources):
    (packed,) = sources.glob("*.json.gz")
    old = gzip.decompress(packed.read_bytes())
    new = b"".join(bz2.decompress(p.read_bytes()) for p in sorted(sources.glob("cirrus_search_index/20260101/*/*.bz2")))
    documents = [run_tool("extract-wiki", stdin=data).stdout.rstrip(b"\n").split(b"\n\n") for data in (old, new)]
    assert len(documents[0]) == old.count(b'{"page_id"')
    assert sorted(documents[0]) == sorted(documents[1])
    assert documents[0] != documents[1]
