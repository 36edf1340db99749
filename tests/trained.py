"""The three tokenizers, trained once per session on data/sample, also as loaded by transformers."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("wordpiece", "char", "unigram")
SIZE = {"wordpiece": 6000, "char": 6000, "unigram": 4000}

# Texts that trip tokenizers: Python, MeCab and Rust differ on what white space and line ends are.
NASTY = [
    " ",
    "\u3000",
    "a\tb\x0bc\x0cd",
    "\x0c東京",
    "\x1c",
    "東京\r",
    "\r東京",
    "東京\x85",
    "\x85東京\u2028大阪\u2029",
    "abc\0def",
    "\0",
    "東京\x00 ",
    "\ufeff東京\u200b都\u200d",
    "\ufffd\uffff\U0010ffff\ue000",
    "がか\u3099ﾊﾟ",
    "㍿㌔①⑳ⅣﬁÅΩ",
    "（ ● ´ ー ｀ ● ）",
    "ヾ（゜Д゜ ）Ｊ（ ゜∀゜）し",
    "[MASK]と[CLS] [SEP][PAD][UNK]",
    "<unused0><unused9> [ MASK ] ［ＭＡＳＫ］",
    "##京 ## # ###",
    "▁東京 ▁ a▁b",
    "a" * 300,
    "あ" * 300,
    "1234567890" * 30,
    "。" * 120,
    "東" + " " * 60_000 + "京",
    "👨‍👩‍👧‍👦🇯🇵🀄𠮷野家𝒳",
    "Ελληνικά Русский العربية ไทย 한국어",
    "e\u0301\u0300\u0327 n\u0303",
]


@pytest.fixture(scope="session")
def sample():
    """data/sample's text: bytes, one sentence or paragraph per line."""
    return b"\n".join(p.read_bytes() for p in sorted((ROOT / "data/sample").glob("*/*.txt")))


_folders = {}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, run_tool, sample):
    """{"wordpiece": folder, "char": folder, "unigram": folder}"""
    for kind in KINDS:
        if kind not in _folders:
            folder = tmp_path_factory.mktemp("tokenizer") / kind
            run_tool("train-tokenizer", "--type", kind, "--vocab-size", SIZE[kind], folder, stdin=sample)
            _folders[kind] = folder
    return _folders
