"""The report on what lies under DATA, as a list of sections for HTML and Markdown alike.

Every section is made from the files alone; what is not there yet is said in one line.
"""

from suzuri.errors import DataError
from suzuri.progress import note
from suzuri.report import data_reader as facts
from suzuri.report.blocks import Missing, Section, Text, Tiles, figure, percent
from suzuri.report.corpus import text_blocks
from suzuri.report.models import evaluation_blocks, fill_mask_blocks, training_blocks
from suzuri.report.provenance import provenance_blocks
from suzuri.report.tokens import token_blocks, tokenizer_blocks


def sections(data, seed, masked=()):
    """The report on DATA, [Section, …]. `masked`: lines with [MASK] for the last model."""
    names = facts.datasets(data)
    parts = (
        ("suzuri: what was made", overview, data, names),
        ("Text", text_blocks, data, names, seed),
        ("Token sequences", token_blocks, data, names),
        ("Tokenizer", tokenizer_blocks, data, names, seed),
        ("Training", training_blocks, data),
        ("Fill-mask", fill_mask_blocks, data, masked),
        ("Evaluation", evaluation_blocks, data),
        ("Provenance", provenance_blocks, data),
    )
    return [Section(title, guarded(f, *args)) for title, f, *args in parts]


def guarded(f, *args):
    """Blocks of f; a file that cannot be read is told in its section and on stderr, and the rest goes on."""
    try:
        return f(*args)
    except (DataError, OSError, UnicodeDecodeError) as e:
        note(e)
        return [Missing(f"Could not be read: {e}")]


def overview(data, names):
    """What there is, and the few figures that are looked for first."""
    items, models = [], facts.models(data)
    counted = [facts.counts(data, name).get("shuffle-split", {}) for name in names]
    if any(counted):
        items.append((figure(sum(c.get("train", 0) for c in counted)), "training sentences"))
    made = [m for m in models if m["manifest"]]
    if made:
        last, (_, losses) = made[-1], facts.curve(made[-1]["lines"], "eval_loss")
        _, right = facts.curve(last["lines"], "eval_accuracy")
        items.append((figure(last["config"].get("vocab_size")), "pieces in the vocabulary"))
        items.append((figure(last["manifest"]["counts"].get("parameters")), "parameters"))
        items.append((figure(sum(m["manifest"]["counts"].get("tokens seen", 0) for m in made)), "tokens trained on"))
        if losses:
            items.append((f"{losses[-1]:.3f}", f"validation loss of {last['name']}"))
        if right:
            items.append((percent(right[-1], 1), "of masked tokens guessed right"))
    of = f"Datasets: {', '.join(names) or 'none yet'}. Models: {', '.join(m['name'] for m in models) or 'none yet'}."
    return [Text(of), *([Tiles(items)] if items else [])]
