#!/usr/bin/env python3
"""Time train-tokenizer against the trainer of Hugging Face's tokenizers (alternating, medians); compare vocabularies.

Both learn a 32,768-piece WordPiece vocabulary from the same sentences on all cores. The peer is
WordPieceTrainer with MeCab (fugashi, unidic-lite) as a custom pre-tokenizer, as in cl-tohoku's recipe; the
rest is the same: NFKC, an alphabet of 6,129 characters, pairs seen at least twice. Two of its runs differ, so their
overlap is shown, too. The peak memory of train-tokenizer is measured at a quarter and at all of the
lines; its growth is shown per distinct word.

TEXT holds one sentence per line.

Example:
  xzcat ../shared/data/cc100/ja.txt.xz | bin/split-sentences > /tmp/ja.txt
  tests/bench/bench_tokenizer.py /tmp/ja.txt --json data/bench/tokenizer.json
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AIMS = {"speed": 6.0, "overlap": 0.998}
RESERVED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"<unused{i}>" for i in range(10))]


def train_peer(text, vocabulary):
    """The other side, in a process of its own."""
    import fugashi
    import unidic_lite
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    folder = unidic_lite.DICDIR

    class Mecab:
        def __init__(self):
            self.tagger = fugashi.GenericTagger(f'-d "{folder}" -r "{folder}/mecabrc"')

        def pre_tokenize(self, text):
            text.split(self.split)

        def split(self, _, text):
            whole, end, words = str(text), 0, []
            for node in self.tagger(whole):
                start = whole.index(node.surface, end)
                end = start + len(node.surface)
                words.append(text[start:end])
            return words

    peer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.normalizer = normalizers.NFKC()
    peer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Mecab())
    trainer = trainers.WordPieceTrainer(
        vocab_size=32768, min_frequency=2, limit_alphabet=6129, special_tokens=RESERVED, show_progress=False
    )
    peer.train([text], trainer)
    Path(vocabulary).write_text("".join(f"{piece}\n" for piece in peer.get_vocab()), encoding="utf-8")


def timed(command, stdin=None):
    """{wall seconds, cpu seconds, peak memory in MB} of a command and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(stdin or os.devnull, "rb") as source:
        tool = subprocess.Popen(command, stdin=source, stderr=subprocess.PIPE, text=True)
        said = tool.stderr.read()
        _, status, usage = os.wait4(tool.pid, 0)
    if status:
        sys.exit(said)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.monotonic() - start, "cpu": cpu, "memory": usage.ru_maxrss / 1024}


def pieces(path):
    return set(Path(path).read_text(encoding="utf-8").split("\n")[:-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", metavar="TEXT")
    p.add_argument("--lines", type=int, default=200_000)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    p.add_argument("--peer", metavar="VOCABULARY", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.peer:
        return train_peer(args.text, args.peer)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with open(args.text, encoding="utf-8", newline="\n") as f:
            lines = list(itertools.islice((line for line in f if not line.isspace()), args.lines))
        (folder / "in").write_text("".join(lines), encoding="utf-8", newline="\n")
        (folder / "quarter").write_text("".join(lines[: len(lines) // 4]), encoding="utf-8", newline="\n")
        ours, theirs = [], []
        for i in range(args.rounds):
            ours.append(timed([ROOT / "bin/train-tokenizer", folder / f"ours{i}"], folder / "in"))
            theirs.append(timed([sys.executable, __file__, folder / "in", "--peer", folder / f"theirs{i}"]))
        vocabularies = [pieces(folder / f"ours{i}/vocab.txt") for i in range(args.rounds)]
        if any(v != vocabularies[0] for v in vocabularies):
            sys.exit("train-tokenizer gave two vocabularies for one text")
        peers = [pieces(folder / f"theirs{i}") for i in range(args.rounds)]
        small = timed([ROOT / "bin/train-tokenizer", folder / "small"], folder / "quarter")
        words = [json.loads((folder / n / "manifest.json").read_text())["counts"] for n in ("small", "ours0")]
        distinct = [w["distinct_words"] for w in words]
    wall = {name: statistics.median(r["wall"] for r in runs) for name, runs in (("ours", ours), ("theirs", theirs))}
    cpu = {name: statistics.median(r["cpu"] for r in runs) for name, runs in (("ours", ours), ("theirs", theirs))}
    memory = statistics.median(r["memory"] for r in ours)
    figures = {
        "sentences": len(lines),
        "seconds": wall,
        "cpu_seconds": cpu,
        "ratio": wall["theirs"] / wall["ours"],
        "cpu_ratio": cpu["theirs"] / cpu["ours"],
        "overlap": len(vocabularies[0] & peers[0]) / len(peers[0]),
        "overlap_of_two_peers": len(peers[0] & peers[-1]) / len(peers[0]),
        "distinct_words": distinct[1],
        "peak_memory_mb": memory,
        "bytes_a_distinct_word": (memory - small["memory"]) * 2**20 / max(1, distinct[1] - distinct[0]),
        "aims": AIMS,
    }
    print(f"train-tokenizer  {wall['ours']:8.1f} s   {cpu['ours']:8.1f} s CPU")
    print(f"WordPieceTrainer {wall['theirs']:8.1f} s   {cpu['theirs']:8.1f} s CPU")
    print(f"ratio            {figures['ratio']:8.2f}     {figures['cpu_ratio']:8.2f} CPU   (aim {AIMS['speed']})")
    print(f"overlap          {figures['overlap']:.4%}   (aim {AIMS['overlap']:.1%}; theirs with itself", end=" ")
    print(f"{figures['overlap_of_two_peers']:.4%})")
    print(f"memory           {memory:.0f} MB, {figures['bytes_a_distinct_word']:.0f} bytes more per distinct word")
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
