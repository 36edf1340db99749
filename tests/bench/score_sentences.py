#!/usr/bin/env python3
"""Score sentence splitters: F1 of the boundaries, and the number of passages without a mistake.

A passage is a JSON line {"id", "sentences"}; the splitter gets its sentences joined. Only the boundaries inside the
passage are compared (every splitter finds its end), as positions in the text after NFKC and without white space, so
splitters may normalize as they like. Splitters that cannot be imported are skipped, and the reason is printed.

Example:
  tests/bench/score_sentences.py tests/bench/passages-*.jsonl ../shared/data/sentences/*.jsonl --splitters suzuri hasami
"""

import argparse
import json
import re
import sys
import time
import unicodedata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))


def suzuri():
    from suzuri.text.sentences import split

    return lambda text: split(text).split("\n")


def hasami():
    import hasami

    return hasami.segment_sentences


def konoha():
    from konoha import SentenceTokenizer

    return SentenceTokenizer().tokenize


def bunkai():
    # Its rules do not need transformers, but if that is installed it imports names that version 5 does not have.
    sys.modules["transformers"] = None
    from bunkai import Bunkai

    splitter = Bunkai()
    return lambda text: list(splitter(text))


def ja_sentence():
    from ja_sentence.tokenizer import tokenize

    return tokenize


def ja_sentence_segmenter():
    """The pipeline in its README, for one line."""
    import functools

    from ja_sentence_segmenter.common.pipeline import make_pipeline
    from ja_sentence_segmenter.concatenate.simple_concatenator import concatenate_matching
    from ja_sentence_segmenter.normalize.neologd_normalizer import normalize
    from ja_sentence_segmenter.split.simple_splitter import split_newline, split_punctuation

    quoted = functools.partial(
        concatenate_matching,
        former_matching_rule=r"^(?P<result>.+)(て)$",
        remove_former_matched=False,
    )
    pipeline = make_pipeline(
        normalize, split_newline, quoted, functools.partial(split_punctuation, punctuations=r"。!?")
    )
    return lambda text: list(pipeline(text))


def tiny_plm():
    """Splits after each of ． 。 ? ! ？ ！, whatever is beside it."""
    return lambda text: re.findall("[^．。?!？！]*[．。?!？！]|[^．。?!？！]+", text)


def cl_tohoku():
    """Splits after each token that MeCab with unidic-lite tags as 句点, on NFKC text."""
    import fugashi
    import unidic_lite

    tagger = fugashi.GenericTagger(f"-d {unidic_lite.DICDIR} -r {unidic_lite.DICDIR}/mecabrc")

    def split(text):
        sentences, sentence = [], []
        for word in tagger(unicodedata.normalize("NFKC", text)):
            sentence.append(word.surface)
            if "句点" in word.feature:
                sentences.append("".join(sentence))
                sentence = []
        return [*sentences, "".join(sentence)]

    return split


SPLITTERS = {
    "suzuri": suzuri,
    "hasami": hasami,
    "ja-sentence": ja_sentence,
    "konoha": konoha,
    "ja-sentence-segmenter": ja_sentence_segmenter,
    "bunkai": bunkai,
    "tiny-plm": tiny_plm,
    "cl-tohoku": cl_tohoku,
}


def squash(text):
    return "".join(unicodedata.normalize("NFKC", text).split())


def boundaries(sentences):
    """The positions between the sentences of a squashed text, and its length.

    >>> boundaries(["あ。", " い！", "", "う"])
    ({2, 4}, 5)
    """
    ends, length = set(), 0
    for sentence in sentences:
        length += len(squash(sentence))
        ends.add(length)
    return ends - {0, length}, length


def score(split, passages):
    """-> {"f1", "precision", "recall" in percent, "whole", "passages", "seconds"}, and the misses as text."""
    right = found = wanted = whole = 0
    misses, seconds = [], 0.0
    for passage in passages:
        text = "".join(passage["sentences"])
        start = time.perf_counter()
        sentences = split(text)
        seconds += time.perf_counter() - start
        gold, length = boundaries(passage["sentences"])
        ours, our_length = boundaries(sentences)
        if length != our_length:  # it lost or added characters: positions mean nothing
            ours = set()
        right, found, wanted = right + len(gold & ours), found + len(ours), wanted + len(gold)
        if gold == ours:
            whole += 1
        else:
            misses.append((passage["id"], passage["sentences"], sentences))
    return {
        "f1": 200 * right / (found + wanted) if found + wanted else 100.0,
        "precision": 100 * right / found if found else 100.0,
        "recall": 100 * right / wanted if wanted else 100.0,
        "whole": whole,
        "passages": len(passages),
        "seconds": seconds,
    }, misses


def load(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("--splitters", nargs="+", choices=SPLITTERS, default=list(SPLITTERS), metavar="NAME")
    p.add_argument("--misses", action="store_true", help="print the passages with mistakes")
    p.add_argument("--json", type=Path, metavar="FILE", help="also write the scores to FILE")
    args = p.parse_args(argv)

    sets = {path.stem: load(path) for path in args.files}
    width = max(map(len, args.splitters))
    print(f"{'':{width}}  " + "  ".join(f"{name:>22}" for name in sets))
    print(f"{'':{width}}  " + "  ".join(f"{'F1     whole':>22}" for _ in sets))
    scores = {}
    for name in args.splitters:
        try:
            split = SPLITTERS[name]()
        except ImportError as e:
            print(f"{name:{width}}  skipped: {e}")
            continue
        scores[name], missed = {}, []
        for stem, passages in sets.items():
            scores[name][stem], misses = score(split, passages)
            missed += misses
        cells = (f"{s['f1']:6.2f}  {s['whole']:5}/{s['passages']}" for s in scores[name].values())
        print(f"{name:{width}}  " + "  ".join(f"{cell:>22}" for cell in cells), flush=True)
        for where, gold, ours in missed if args.misses else ():
            print(f"  {where}\n    gold  {' | '.join(gold)}\n    found {' | '.join(ours)}")
    if args.json:
        args.json.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
