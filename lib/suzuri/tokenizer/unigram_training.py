"""Unigram training by sentencepiece, and the tokenizer.json of its result.

Kudo, 2018, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword
Candidates". sentencepiece's result depends on the order of its input and, by rounding, on its number of
threads. So it gets counted runs in sorted order, never a sample, and always THREADS threads: the same lines give
the same bytes. It holds all of its input in memory, about 2 kB per sentence.
"""

import io
import os
import re
import tempfile
from collections.abc import Sequence

from suzuri.errors import DataError

THREADS = 8
BLANK = "▁"  # stands for a blank in sentencepiece

# Lower than any text's score, so that a "[MASK]" spelled out in a text is never the token: a piece's score
# is the logarithm of its probability, about -20 at the lowest, and no special token has 50 characters.
SPECIAL_SCORE = -1000.0


def learn(
    runs: dict[str, int], alphabet: set[str], reserved: Sequence[str], size: int, folder: str
) -> list[tuple[str, float]]:
    """[(piece, score), …], `reserved` first, at most `size` of them.

    runs: {run: count}, as counting.count_runs gives them. alphabet: the characters to cover; a run is cut
    at others. The characters of the reserved pieces are covered, too. `folder` is for a scratch file.
    """
    import sentencepiece

    alphabet = (alphabet | set("".join(reserved))) - {BLANK}
    outside = re.compile(f"[^{re.escape(''.join(sorted(alphabet)))} ]+")
    room = size - len(reserved)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, suffix=".tsv") as f:
        for run in sorted(runs):
            f.writelines(f"{part}\t{runs[run]}\n" for part in outside.split(run) if part)
        f.flush()
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                input=f.name,
                input_format="tsv",
                model_writer=model,
                model_type="unigram",
                vocab_size=room + 1,  # and its <unk>
                hard_vocab_limit=False,
                required_chars="".join(sorted(alphabet)),
                character_coverage=1.0,
                normalization_rule_name="identity",  # the text is NFKC already
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                max_sentence_length=1 << 30,
                num_threads=THREADS,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                minloglevel=2,
            )
        except (RuntimeError, OSError) as e:
            raise DataError("sentencepiece", " ".join(str(e).split())) from None
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(1, trained.get_piece_size())]
    pieces = [(piece, score) for piece, score in pieces if piece not in reserved]
    return [(piece, SPECIAL_SCORE) for piece in reserved] + pieces[:room]


def write_json(path: str, pieces: list[tuple[str, float]], special: Sequence[str]) -> None:
    """Write a tokenizer.json: NFKC, blanks as ▁, unigram pieces, `[CLS] … [SEP]`.

    `special` is (pad, unk, cls, sep, mask), pieces[0:5] in this order.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    # No blank is put in front of a line: Japanese has none there, and 東京 must be the same piece anywhere.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(replacement=BLANK, prepend_scheme="never")
    _, _, cls, sep, _ = special
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, special.index(token)) for token in (cls, sep)],
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(path)
    os.chmod(path, 0o644)
